//! The text of a Migration to begin with, with comments that say what to look at.

use std::fmt::Write as _;

use super::{
    super::{problem::Problem, words::short},
    DatabaseMove, Labels, OnFenceTimeout, SchemaChange, SecretKey, ServiceSwitch, Traffic,
    questions::Asker,
};
use crate::api::Span;

/// How long the old side is kept where nobody says.
const DEFAULT_BAKE: Span = Span::secs(3_600);
/// Largest share of errors where nobody says.
const DEFAULT_MAX_ERRORS: f64 = 0.01;

/// What a migration is about.
pub struct About {
    /// A name for it.
    pub name: String,
    comment: &'static str,
    stores: Vec<(&'static str, SecretKey)>,
    guards: String,
    phases: String,
}

/// A switch with all that belongs to it.
struct Move {
    service: String,
    from: Labels,
    to: Labels,
    bake: Span,
    errors: Option<(String, String)>,
    max_errors: f64,
}

impl Move {
    fn ask(flags: Traffic, asker: &mut Asker) -> Result<Self, Problem> {
        Ok(Self {
            service: asker.needed(flags.service.map(Word), "--service", "Which Service's traffic moves?")?.0,
            from: asker.needed(flags.from, "--from", "Which label marks the old side, such as version=v1?")?,
            to: asker.needed(flags.to, "--to", "Which the new side, such as version=v2?")?,
            bake: flags.bake.unwrap_or(DEFAULT_BAKE),
            errors: flags.errors.zip(flags.total),
            max_errors: flags.max_errors.unwrap_or(DEFAULT_MAX_ERRORS),
        })
    }

    /// Those who watch: a share of errors, by the queries that were given or by a guess.
    fn guards(&self) -> String {
        let service = &self.service;
        let guess = |code: &str| format!("sum(rate(http_requests_total{{service=\"{service}\"{code}}}[1m]))");
        let (errors, total, comment) = match &self.errors {
            Some((errors, total)) => (errors.clone(), total.clone(), ""),
            None => (guess(",code=~\"5..\""), guess(""), " # a guess: are these your metrics and labels?"),
        };
        let (errors, total, max) = (scalar(&errors), scalar(&total), self.max_errors);
        format!(
            "  guards:\n    - name: error-rate\n      ratio:{comment}\n        errors: {errors}\n        total: {total}\n      \
             max: {max}\n"
        )
    }

    fn phases(&self, more: &str) -> String {
        let (service, from, to) = (scalar(&self.service), flow(&self.from), flow(&self.to));
        let bake = short(self.bake);
        format!(
            "    - name: cut-over\n      switch:\n        service: {service}\n        from: {from}\n        to: {to}\n{more}\
             \x20   - name: bake\n      bake: {{for: {bake}}} # the old side stays, and guards stay on\n"
        )
    }
}

/// A word that was answered.
struct Word(String);

impl std::str::FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

impl About {
    /// A change of a schema, with a backfill and a switch where they are asked for.
    pub fn schema_change(flags: SchemaChange, asker: &mut Asker) -> Result<Self, Problem> {
        let secret = asker.needed(flags.secret, "--secret", "Which Secret has the database's URI, as NAME/KEY?")?;
        let up = asker.needed(flags.up.map(Word), "--up", "Which SQL takes the schema forward?")?.0;
        let down = asker.optional(flags.down, "--down", "Which SQL takes it back?")?;
        let service =
            asker.optional(flags.switch.service.clone(), "--service", "Does a Service move to a new version?")?;
        let contract =
            asker.optional(flags.contract, "--contract", "Which SQL removes what is not needed any more?")?;
        let moves = match service {
            Some(service) => Some(Move::ask(Traffic { service: Some(service), ..flags.switch }, asker)?),
            None => None,
        };
        let mut phases = "    - name: expand\n      sql:\n        store: db\n".to_owned();
        let _ = writeln!(phases, "        up: {{inline: {}}}", scalar(&up));
        if let Some(down) = &down {
            let _ = writeln!(phases, "        down: {{inline: {}}}", scalar(down));
            phases.push_str("        onRollback: Keep # the old version doesn't mind; Down runs the down script\n");
        }
        if let (Some(table), Some(filter)) = (&flags.backfill, &flags.filter) {
            phases.push_str("    - name: backfill\n      backfill:\n        store: db\n");
            let _ = writeln!(phases, "        table: {}\n        set:", scalar(table));
            for set in &flags.set {
                let (column, expression) = set.split_once('=').ok_or_else(|| Problem::Usage {
                    why: format!("--set {set} has no `=`"),
                    instead: "write --set COLUMN=EXPRESSION".to_owned(),
                })?;
                let _ = writeln!(phases, "          {}: {}", scalar(column.trim()), scalar(expression.trim()));
            }
            let _ = writeln!(phases, "        where: {}", scalar(filter));
            phases.push_str("        sync: Trigger # new writes are filled too\n        throttle: {duty: 50%}\n");
        }
        let guards = moves.as_ref().map(Move::guards).unwrap_or_default();
        phases.push_str(&moves.as_ref().map(|moves| moves.phases("")).unwrap_or_default());
        if let Some(contract) = &contract {
            phases.push_str("    - name: contract\n      pointOfNoReturn: true # so it asks for an approval\n");
            let _ = writeln!(phases, "      sql:\n        store: db\n        up: {{inline: {}}}", scalar(contract));
        }
        let name = moves.map_or_else(|| "schema-change".to_owned(), |moves| format!("{}-schema", moves.service));
        let comment = "# A schema changes in a way that both versions of the code can live with.";
        Ok(Self { name, comment, stores: vec![("db", secret)], guards, phases })
    }

    /// Traffic moves.
    pub fn service_switch(flags: ServiceSwitch, asker: &mut Asker) -> Result<Self, Problem> {
        let moves = Move::ask(flags.switch, asker)?;
        Ok(Self {
            name: format!("{}-switch", moves.service),
            comment: "# A service's traffic moves to a new version, and back by itself when the guards say so.",
            stores: Vec::new(),
            guards: moves.guards(),
            phases: moves.phases(""),
        })
    }

    /// A database moves.
    pub fn database_move(flags: DatabaseMove, asker: &mut Asker) -> Result<Self, Problem> {
        let old = asker.needed(flags.old, "--old", "Which Secret has the old database's URI, as NAME/KEY?")?;
        let new = asker.needed(flags.new, "--new", "Which the new one's?")?;
        let moves = Move::ask(flags.switch, asker)?;
        let tables = if flags.tables.is_empty() { vec!["public.*".to_owned()] } else { flags.tables };
        let tables: Vec<_> = tables.iter().map(|table| scalar(table)).collect();
        let tables = tables.join(", ");
        let timeout = match flags.on_fence_timeout {
            OnFenceTimeout::PreferData => "PreferData # traffic stays until no write is lost",
            OnFenceTimeout::PreferTraffic => "PreferTraffic # traffic goes back; what was not replicated stays behind",
        };
        let fence = match flags.pgbouncer.zip(flags.pgbouncer_database) {
            Some((secret, database)) => format!(
                "        fence: # clients wait in PgBouncer while writes are held\n          pgbouncer: {{adminSecretRef: {}, \
                 database: {}}}\n",
                key(&secret),
                scalar(&database)
            ),
            None => "        fence: {} # without a PgBouncer, clients that write meanwhile must try again\n".to_owned(),
        };
        let more = format!("{fence}        onFenceTimeout: {timeout}\n");
        let phases = format!(
            "    - name: copy # the new database has the schema already, and no rows\n      replicate:\n        from: old\n        \
             to: new\n        tables: [{tables}]\n        wayBack: true # from the cut-over on, the new one feeds the old one\n    \
             - name: prove\n      verify: {{from: old, to: new, tables: [{tables}]}}\n{}",
            moves.phases(&more).replacen("      switch:", "      approval: Required\n      switch:", 1)
        );
        Ok(Self {
            name: format!("{}-move", moves.service),
            comment: "# A database moves to another server: copied, kept in step, proven equal, then its writes move.",
            stores: vec![("old", old), ("new", new)],
            guards: moves.guards(),
            phases,
        })
    }

    /// The whole text.
    pub fn write(&self, name: &str, namespace: Option<&str>) -> String {
        let mut text = format!("{}\napiVersion: alongside.dev/v1alpha1\nkind: Migration\nmetadata:\n", self.comment);
        let _ = writeln!(text, "  name: {}", scalar(name));
        if let Some(namespace) = namespace {
            let _ = writeln!(text, "  namespace: {}", scalar(namespace));
        }
        text.push_str("spec:\n");
        if !self.stores.is_empty() {
            text.push_str("  stores:\n");
        }
        for (name, secret) in &self.stores {
            let _ = writeln!(text, "    - name: {name}\n      postgres: {{secretRef: {}}}", key(secret));
        }
        if self.guards.is_empty() {
            text.push_str("  # Without guards nothing takes it back by itself: what would show that it goes wrong?\n");
        }
        text.push_str(&self.guards);
        text.push_str("  phases:\n");
        text.push_str(&self.phases);
        text
    }
}

fn key(secret: &SecretKey) -> String {
    format!("{{name: {}, key: {}}}", scalar(&secret.name), scalar(&secret.key))
}

fn flow(labels: &Labels) -> String {
    let pairs: Vec<_> = labels.0.iter().map(|(name, value)| format!("{}: {}", scalar(name), scalar(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// A text as YAML: bare where that can't be anything else, in quotes otherwise.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !["true", "false", "yes", "no", "on", "off", "y", "n", "null"].contains(&text.to_lowercase().as_str());
    // JSON's texts are YAML's too.
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_a_text() {
        for text in ["v1", "yes", "1", "a: b", "it's \"so\"", "#x", "", "0x1", "null", "*"] {
            let written = scalar(text);
            assert_eq!(serde_saphyr::from_str::<String>(&written).unwrap(), text, "{written}");
        }
        assert_eq!((scalar("shop-db").as_str(), scalar("yes").as_str()), ("shop-db", "\"yes\""));
    }
}
