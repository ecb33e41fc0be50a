//! Argo CD's configuration for Migrations, from the scripts that lie as Argo CD's own repository wants them.

use std::fmt::Write as _;

/// The actions, in the order in which people look for them.
pub const ACTIONS: [&str; 6] = ["approve", "pause", "resume", "abort", "rollback", "retry"];

/// What is in the folder of scripts.
pub struct Scripts {
    pub health: String,
    pub discovery: String,
    /// By the names in [`ACTIONS`].
    pub actions: Vec<String>,
}

/// The part of the ConfigMap `argocd-cm` that speaks of Migrations: a patch for `kubectl` and for Kustomize alike.
pub fn config_map(scripts: &Scripts) -> String {
    let mut text = String::from(
        "# Written by crdgen from resource_customizations/; change that instead.\n\
         apiVersion: v1\n\
         kind: ConfigMap\n\
         metadata:\n  name: argocd-cm\n\
         data:\n  resource.customizations.health.alongside.dev_Migration: |\n",
    );
    block(&mut text, 4, &scripts.health);
    text.push_str("  resource.customizations.actions.alongside.dev_Migration: |\n    discovery.lua: |\n");
    block(&mut text, 6, &scripts.discovery);
    text.push_str("    definitions:\n");
    for (name, script) in ACTIONS.iter().zip(&scripts.actions) {
        let _ = write!(text, "      - name: {name}\n        action.lua: |\n");
        block(&mut text, 10, script);
    }
    text
}

fn block(text: &mut String, indent: usize, script: &str) {
    for line in script.lines() {
        let _ = if line.is_empty() { writeln!(text) } else { writeln!(text, "{:indent$}{line}", "") };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_script_is_read_back_as_it_was() {
        let actions: Vec<_> = ACTIONS.iter().map(|name| format!("-- {name}\n\nreturn obj\n")).collect();
        let scripts =
            Scripts { health: "if a then\n  return {}\nend\n".into(), discovery: "return {}\n".into(), actions };
        let map: Value = serde_saphyr::from_str(&config_map(&scripts)).unwrap();
        let data = &map["data"];
        assert_eq!(data["resource.customizations.health.alongside.dev_Migration"], scripts.health);
        let told = data["resource.customizations.actions.alongside.dev_Migration"].as_str().unwrap();
        let told: Value = serde_saphyr::from_str(told).unwrap();
        assert_eq!(told["discovery.lua"], scripts.discovery);
        for (index, name) in ACTIONS.iter().enumerate() {
            assert_eq!(told["definitions"][index]["name"], *name);
            assert_eq!(told["definitions"][index]["action.lua"], scripts.actions[index]);
        }
    }
}
