//! The administrator's list of metrics providers, a YAML file that the chart mounts into the operator.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Requests that may be under way at once to one provider, unless it says otherwise. Prometheus itself evaluates 20 at
/// once and lets the others wait; three times that keeps it busy without hundreds of open connections.
const DEFAULT_CONCURRENCY: usize = 64;

/// One provider, as the administrator writes it.
///
/// Whatever is secret is named by the file it is mounted as, never written here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderConfig {
    /// Name that Migrations write.
    pub name: String,
    /// Base URL of its Prometheus API, without `/api/v1`. Example: `http://prometheus.monitoring:9090`.
    pub url: String,
    /// Namespaces whose Migrations may ask it: a list, or `"*"` for all.
    pub allowed_namespaces: AllowedNamespaces,
    /// Headers to send, each with the file that holds its value.
    #[serde(default)]
    pub headers_from_files: BTreeMap<String, PathBuf>,
    /// File with a bearer token.
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    /// Basic authentication.
    #[serde(default)]
    pub basic_auth: Option<BasicAuth>,
    /// Header that names the tenant.
    #[serde(default)]
    pub tenant: Option<Tenant>,
    /// File with the certificates to trust, as PEM. Default: the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Accepts any certificate. Whoever sits in between can then make guards pass.
    #[serde(default)]
    pub insecure_skip_verify: bool,
    /// Requests that may be under way at once. Default: 64.
    #[serde(default = "default_concurrency")]
    pub max_concurrency: usize,
}

fn default_concurrency() -> usize {
    DEFAULT_CONCURRENCY
}

/// Namespaces whose Migrations may ask a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AllowedNamespaces {
    /// All of them; written `"*"`.
    All(Star),
    /// These.
    Only(BTreeSet<String>),
}

/// The sign that stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Star {
    /// `"*"`
    #[serde(rename = "*")]
    Star,
}

impl AllowedNamespaces {
    /// Whether Migrations of `namespace` may ask.
    pub fn allow(&self, namespace: &str) -> bool {
        match self {
            Self::All(Star::Star) => true,
            Self::Only(names) => names.contains(namespace),
        }
    }
}

/// Basic authentication from files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BasicAuth {
    /// File with the user's name.
    pub username_file: PathBuf,
    /// File with the password.
    pub password_file: PathBuf,
}

/// A header that names the tenant, for a provider that many share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tenant {
    /// Name of the header. Default: `X-Scope-OrgID`.
    #[serde(default = "default_tenant_header")]
    pub header: String,
    /// The tenant.
    pub value: String,
}

fn default_tenant_header() -> String {
    "X-Scope-OrgID".to_owned()
}

/// Why a list of providers can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file isn't a list of providers.
    #[error("{} isn't a list of metrics providers", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// Two providers have one name.
    #[error("metrics provider `{0}` is there twice")]
    Twice(String),
    /// No request could ever be made.
    #[error("metrics provider `{0}`: `maxConcurrency` must be at least 1")]
    NoConcurrency(String),
    /// Two ways to authenticate.
    #[error("metrics provider `{0}`: write `bearerTokenFile` or `basicAuth`, not both")]
    TwoCredentials(String),
}

pub(super) fn load(path: &Path) -> Result<Vec<ProviderConfig>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    serde_saphyr::from_str(&text)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
}

pub(super) fn check(configs: &[ProviderConfig]) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for config in configs {
        let name = || config.name.clone();
        if !names.insert(&config.name) {
            return Err(ConfigError::Twice(name()));
        }
        if config.max_concurrency == 0 {
            return Err(ConfigError::NoConcurrency(name()));
        }
        if config.bearer_token_file.is_some() && config.basic_auth.is_some() {
            return Err(ConfigError::TwoCredentials(name()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<ProviderConfig>, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_is_read_as_administrators_write_it() {
        let list = read(
            r#"
- name: default
  url: http://prometheus.monitoring:9090
  allowedNamespaces: "*"
- name: shared
  url: https://mimir.example/prometheus
  allowedNamespaces: [shop, billing]
  tenant: {value: team-a}
  bearerTokenFile: /etc/alongside/mimir/token
  headersFromFiles: {X-Api-Key: /etc/alongside/mimir/key}
  caFile: /etc/alongside/mimir/ca.crt
"#,
        )
        .unwrap();
        assert!(list[0].allowed_namespaces.allow("anything"));
        assert!(list[1].allowed_namespaces.allow("shop") && !list[1].allowed_namespaces.allow("default"));
        assert_eq!(list[1].tenant, Some(Tenant { header: "X-Scope-OrgID".to_owned(), value: "team-a".to_owned() }));
        assert!(!list[1].insecure_skip_verify);
    }

    #[test]
    fn nobody_may_ask_unless_the_administrator_says_who() {
        assert!(read("- {name: a, url: \"http://x\"}").unwrap_err().contains("allowedNamespaces"));
        let list = read("- {name: a, url: \"http://x\", allowedNamespaces: []}").unwrap();
        assert!(!list[0].allowed_namespaces.allow("default"));
        assert!(read("- {name: a, url: \"http://x\", allowedNamespaces: all}").is_err());
    }

    #[test]
    fn a_misspelt_field_is_refused_rather_than_ignored() {
        let error = read("- {name: a, url: \"http://x\", allowedNamespaces: [b], bearerToken: secret}").unwrap_err();
        assert!(error.contains("bearerToken"), "{error}");
    }

    #[test]
    fn a_name_stands_once() {
        let list = read(
            "- {name: a, url: \"http://x\", allowedNamespaces: []}\n- {name: a, url: \"http://y\", allowedNamespaces: []}",
        );
        assert!(matches!(check(&list.unwrap()), Err(ConfigError::Twice(name)) if name == "a"));
    }
}
