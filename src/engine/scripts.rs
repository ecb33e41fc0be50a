//! From what a user wrote to an ordered list of versioned scripts: pure, no database and no SQL parser.
//!
//! Two shapes come in. Inline text (or one ConfigMap key each for up and down) is one script whose version is the
//! phase's name. A whole ConfigMap follows one of two namings, each key being one direction of one script:
//!
//! | naming | up | down |
//! |---|---|---|
//! | golang-migrate | `0007_add_sku.up.sql` | `0007_add_sku.down.sql` |
//! | Flyway | `V1.2__add_sku.sql` | `U1.2__add_sku.sql` |
//!
//! Versions order by number, not by text: 10 comes after 9, 1.10 after 1.9.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Longest script, in bytes.
pub const MAX_SCRIPT: usize = 256 * 1024;
/// Most bytes of all scripts of a phase. They travel to the worker as JSON in one ConfigMap of at most 1 MiB, where
/// quotes and line ends take two bytes each.
pub const MAX_ALL_SCRIPTS: usize = 512 * 1024;
/// Most scripts of a phase.
pub const MAX_SCRIPTS: usize = 500;

/// One script with its way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VersionedScript {
    /// The version in its plain form: `7` for `0007`, `1.2` for `1_2` and `1.2.0`; a phase's name for inline text.
    pub version: String,
    /// What a person calls it: the key without its direction and suffix, or the phase's name.
    pub name: String,
    /// The SQL text that takes the schema forward.
    pub up: String,
    /// The SQL text that takes it back. Without one, it can't be undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down: Option<String>,
    /// [`checksum`] of `up`.
    pub checksum: String,
}

/// Why scripts can't be made out of what was given. Each message names the key and says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A ConfigMap without keys.
    #[error("the ConfigMap has no keys; write scripts such as `0001_add_sku.up.sql` and `0001_add_sku.down.sql`")]
    NoScripts,
    /// A key in neither naming.
    #[error(
        "the key `{key}` is no script; write `<version>_<name>.up.sql` and `<version>_<name>.down.sql`, or \
         `V<version>__<name>.sql` and `U<version>__<name>.sql`, and keep other files out of this ConfigMap"
    )]
    UnknownName {
        /// The key.
        key: String,
    },
    /// Keys in both namings.
    #[error("`{golang_migrate}` and `{flyway}` follow two namings; keep to one within a ConfigMap")]
    MixedNaming {
        /// A key in golang-migrate's naming.
        golang_migrate: String,
        /// A key in Flyway's naming.
        flyway: String,
    },
    /// A Flyway repeatable.
    #[error(
        "`{key}` is a repeatable script, which has neither a place in the order nor a way back; give it a version, \
         such as `V<version>__<name>.sql`"
    )]
    Repeatable {
        /// The key.
        key: String,
    },
    /// A Flyway baseline.
    #[error("`{key}` is a baseline script, for empty databases only; leave it out of this ConfigMap")]
    Baseline {
        /// The key.
        key: String,
    },
    /// A version number beyond 64 bits.
    #[error("the version of `{key}` is too large; each number of a version goes up to 18446744073709551615")]
    VersionTooLarge {
        /// The key.
        key: String,
    },
    /// One version, two scripts of the same direction.
    #[error("`{first}` and `{second}` both have version {version}; give each script a version of its own")]
    DuplicateVersion {
        /// The version in its plain form.
        version: String,
        /// The key that comes first in the alphabet.
        first: String,
        /// The other.
        second: String,
    },
    /// A down script alone.
    #[error("`{key}` takes version {version} back, but nothing takes it forward; add `{expected}`")]
    MissingUp {
        /// The down script's key.
        key: String,
        /// The version in its plain form.
        version: String,
        /// The key that is missing.
        expected: String,
    },
    /// Nothing but blanks.
    #[error("the script `{key}` is empty; write its SQL, or leave it out")]
    Empty {
        /// The key, or `up` or `down`.
        key: String,
    },
    /// A NUL byte, which PostgreSQL can't be sent.
    #[error("the script `{key}` holds a NUL byte at offset {offset}; write it as UTF-8 text without NUL")]
    Nul {
        /// The key, or `up` or `down`.
        key: String,
        /// Offset in bytes.
        offset: usize,
    },
    /// One script is too long.
    #[error("the script `{key}` has {bytes} bytes, more than {MAX_SCRIPT}; split it, or run it as a `job`")]
    TooLong {
        /// The key, or `up` or `down`.
        key: String,
        /// Its length in bytes.
        bytes: usize,
    },
    /// All scripts together are too long.
    #[error("the scripts have {bytes} bytes together, more than {MAX_ALL_SCRIPTS}; split them over several phases")]
    TooLarge {
        /// Their length in bytes.
        bytes: usize,
    },
    /// Too many scripts.
    #[error("there are {count} scripts, more than {MAX_SCRIPTS}; split them over several phases")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// Makes the one script of a phase with inline text; its version and name are the phase's name.
pub fn inline(phase: &str, up: &str, down: Option<&str>) -> Result<Vec<VersionedScript>, ScriptError> {
    check_text("up", up)?;
    if let Some(down) = down {
        check_text("down", down)?;
    }
    check_total(up.len() + down.map_or(0, str::len))?;
    Ok(vec![VersionedScript {
        version: phase.to_owned(),
        name: phase.to_owned(),
        up: up.to_owned(),
        down: down.map(str::to_owned),
        checksum: checksum(up),
    }])
}

/// Makes the ordered scripts of a whole ConfigMap from its `data`.
pub fn from_config_map(data: &BTreeMap<String, String>) -> Result<Vec<VersionedScript>, ScriptError> {
    if data.is_empty() {
        return Err(ScriptError::NoScripts);
    }
    let mut found: BTreeMap<Version, Pair<'_>> = BTreeMap::new();
    let mut namings = SeenNamings::default();
    for (key, text) in data {
        let parsed = parse_key(key)?;
        namings.note(parsed.naming, key)?;
        check_text(key, text)?;
        let pair = found.entry(parsed.version.clone()).or_default();
        let place = match parsed.direction {
            Direction::Up => &mut pair.up,
            Direction::Down => &mut pair.down,
        };
        if let Some((first, _)) = place {
            return Err(ScriptError::DuplicateVersion {
                version: parsed.version.to_string(),
                first: first.text.to_owned(),
                second: key.clone(),
            });
        }
        *place = Some((parsed, text));
    }
    check_total(data.values().map(String::len).sum())?;
    if found.len() > MAX_SCRIPTS {
        return Err(ScriptError::TooMany { count: found.len() });
    }
    found.into_values().map(Pair::into_script).collect()
}

/// Hash of a script's text that tells whether it has changed: SHA-256 in hexadecimal.
///
/// Line ends and trailing blanks don't count, since YAML's block styles (`|`, `|-`) and editors change them unasked.
pub fn checksum(text: &str) -> String {
    let plain = text.replace("\r\n", "\n");
    hex(&Sha256::digest(plain.trim_end().as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A version as numbers, without leading and trailing zeros, so that `1`, `1.0` and `01` are the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(Vec<u64>);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, part) in self.0.iter().enumerate() {
            let dot = if i == 0 { "" } else { "." };
            write!(f, "{dot}{part}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    GolangMigrate,
    Flyway,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

#[derive(Debug)]
struct Key<'a> {
    text: &'a str,
    naming: Naming,
    direction: Direction,
    version: Version,
    name: &'a str,
}

/// Both directions of one version.
#[derive(Default)]
struct Pair<'a> {
    up: Option<(Key<'a>, &'a str)>,
    down: Option<(Key<'a>, &'a str)>,
}

impl Pair<'_> {
    fn into_script(self) -> Result<VersionedScript, ScriptError> {
        match (self.up, self.down) {
            (Some((key, up)), down) => Ok(VersionedScript {
                version: key.version.to_string(),
                name: key.name.to_owned(),
                up: up.to_owned(),
                down: down.map(|(_, text)| text.to_owned()),
                checksum: checksum(up),
            }),
            (None, Some((key, _))) => Err(ScriptError::MissingUp {
                expected: match key.naming {
                    Naming::GolangMigrate => format!("{}.up.sql", key.name),
                    Naming::Flyway => format!("V{}.sql", &key.name[1..]),
                },
                version: key.version.to_string(),
                key: key.text.to_owned(),
            }),
            (None, None) => unreachable!("a version is entered together with its first script"),
        }
    }
}

/// The first key seen in each naming.
#[derive(Default)]
struct SeenNamings {
    golang_migrate: Option<String>,
    flyway: Option<String>,
}

impl SeenNamings {
    fn note(&mut self, naming: Naming, key: &str) -> Result<(), ScriptError> {
        let seen = match naming {
            Naming::GolangMigrate => &mut self.golang_migrate,
            Naming::Flyway => &mut self.flyway,
        };
        seen.get_or_insert_with(|| key.to_owned());
        match (&self.golang_migrate, &self.flyway) {
            (Some(golang_migrate), Some(flyway)) => {
                Err(ScriptError::MixedNaming { golang_migrate: golang_migrate.clone(), flyway: flyway.clone() })
            }
            (Some(_), None) | (None, _) => Ok(()),
        }
    }
}

fn parse_key(key: &str) -> Result<Key<'_>, ScriptError> {
    let unknown = || ScriptError::UnknownName { key: key.to_owned() };
    let stem = key.strip_suffix(".sql").ok_or_else(unknown)?;
    if stem.starts_with(|c: char| c.is_ascii_digit()) {
        let (name, direction) = stem
            .strip_suffix(".up")
            .map(|name| (name, Direction::Up))
            .or_else(|| stem.strip_suffix(".down").map(|name| (name, Direction::Down)))
            .ok_or_else(unknown)?;
        let (number, _title) = name.split_once('_').ok_or_else(unknown)?;
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(unknown());
        }
        let version = version(number, key)?;
        return Ok(Key { text: key, naming: Naming::GolangMigrate, direction, version, name });
    }
    let mut letters = stem.chars();
    let direction = match letters.next() {
        Some('V') => Direction::Up,
        Some('U') => Direction::Down,
        Some('R') if stem.starts_with("R__") => return Err(ScriptError::Repeatable { key: key.to_owned() }),
        Some('B') if stem[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            return Err(ScriptError::Baseline { key: key.to_owned() });
        }
        Some(_) | None => return Err(unknown()),
    };
    let (number, title) = stem[1..].split_once("__").ok_or_else(unknown)?;
    let well_formed = number.split(['.', '_']).all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if !well_formed || title.is_empty() {
        return Err(unknown());
    }
    Ok(Key { text: key, naming: Naming::Flyway, direction, version: version(number, key)?, name: stem })
}

fn version(number: &str, key: &str) -> Result<Version, ScriptError> {
    let mut parts = number
        .split(['.', '_'])
        .map(|part| part.parse().map_err(|_| ScriptError::VersionTooLarge { key: key.to_owned() }))
        .collect::<Result<Vec<u64>, _>>()?;
    while parts.len() > 1 && parts.last() == Some(&0) {
        parts.pop();
    }
    Ok(Version(parts))
}

fn check_text(key: &str, text: &str) -> Result<(), ScriptError> {
    if text.trim().is_empty() {
        return Err(ScriptError::Empty { key: key.to_owned() });
    }
    if let Some(offset) = text.find('\0') {
        return Err(ScriptError::Nul { key: key.to_owned(), offset });
    }
    if text.len() > MAX_SCRIPT {
        return Err(ScriptError::TooLong { key: key.to_owned(), bytes: text.len() });
    }
    Ok(())
}

fn check_total(bytes: usize) -> Result<(), ScriptError> {
    if bytes > MAX_ALL_SCRIPTS { Err(ScriptError::TooLarge { bytes }) } else { Ok(()) }
}

#[cfg(test)]
#[path = "scripts_tests.rs"]
mod tests;
