//! Completions, the man page, the manifest for krew, and that the documentation speaks of what there is.

use std::process::Command;

use alongside::cli;
use serde_json::Value;

use crate::{
    bench::{PLUGIN, folder, offline},
    support::cluster::root,
};

#[test]
fn each_shell_gets_its_completions() {
    for (shell, words) in
        [("bash", "complete -F"), ("zsh", "#compdef"), ("fish", "complete -c"), ("powershell", "Register-")]
    {
        let said = offline(&["completion", shell]);
        assert!(said.code == 0 && said.stdout.contains(words) && said.stdout.contains("approve"), "{shell}");
    }
    let file = folder("completion").join("bash");
    std::fs::write(&file, offline(&["completion", "bash"]).stdout).expect("a file can be written");
    assert!(Command::new("bash").arg("-n").arg(&file).status().expect("bash can be run").success());
}

#[test]
fn kubectl_completes_by_a_program_of_its_own() {
    let script = folder("completion").join("kubectl_complete-alongside");
    std::fs::write(&script, offline(&["completion", "bash", "--kubectl"]).stdout).expect("a file can be written");
    let path = std::path::Path::new(PLUGIN).parent().expect("it is in a folder").display();
    let path = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());
    let said = Command::new("sh").arg(&script).args(["lint", "--format", ""]).env("PATH", path).output();
    assert_eq!(String::from_utf8_lossy(&said.expect("sh can be run").stdout), "github\nhuman\nsarif\n:4\n");
}

#[test]
fn the_man_page_knows_every_verb() {
    let page = offline(&["man"]).stdout;
    assert!(page.contains(".TH kubectl-alongside"), "{page}");
    for verb in cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        assert!(page.contains(verb.get_name()), "{}", verb.get_name());
    }
}

#[test]
fn a_release_for_krew_is_whole() {
    let folder = folder("krew");
    let binary = folder.join("built");
    std::fs::write(&binary, "#!/bin/sh\n").expect("a file can be written");
    let (home, downloads) = ("https://example.org/alongside", "https://example.org/downloads");
    let release = || {
        let said = Command::new(root().join("deploy/krew/release"))
            .arg(&binary)
            .args([home, downloads])
            .arg(&folder)
            .output()
            .expect("the script can be run");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let text = std::fs::read_to_string(folder.join("alongside.yaml")).expect("it is written");
        assert!(!text.contains('@'), "{text}");
        serde_saphyr::from_str::<Value>(&text).expect("it is YAML")
    };
    let manifest = release();
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!((&manifest["kind"], &manifest["metadata"]["name"]), (&"Plugin".into(), &"alongside".into()));
    let spec = &manifest["spec"];
    assert_eq!(spec["version"], concat!("v", env!("CARGO_PKG_VERSION")));
    assert!(spec["shortDescription"].as_str().is_some_and(|text| text.len() <= 50 && !text.ends_with('.')), "{spec}");
    let platform = &spec["platforms"][0];
    let archive = platform["uri"].as_str().and_then(|uri| uri.strip_prefix(downloads)).expect("it is a download");
    let archive = folder.join(archive.trim_start_matches('/'));
    let sum = Command::new("sha256sum").arg(&archive).output().expect("sha256sum can be run");
    let sum = String::from_utf8_lossy(&sum.stdout).split(' ').next().map(str::to_owned);
    assert_eq!(platform["sha256"].as_str(), sum.as_deref());
    let listed = Command::new("tar").arg("-tzf").arg(&archive).output().expect("tar can be run");
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "kubectl-alongside\nLICENSE\n");
    assert_eq!(release()["spec"]["platforms"][0]["sha256"].as_str(), sum.as_deref(), "it can be made again");
}

/// Commands in the documentation's fenced blocks and code spans.
fn documented() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs/plugin.md")).expect("it is there");
    let lines = text.split("```").skip(1).step_by(2).flat_map(str::lines).map(str::to_owned);
    let spans = text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2)).map(str::to_owned);
    let all = lines.chain(spans).map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
    all.filter(|line| line.starts_with("kubectl alongside ")).collect()
}

#[test]
fn every_command_in_the_documentation_can_be_run() {
    let commands = documented();
    assert!(commands.len() > 15, "{commands:#?}");
    for line in commands {
        let line = [" > ", " && "].iter().fold(line.as_str(), |line, next| line.split(next).next().unwrap_or_default());
        let split = Command::new("sh").arg("-c").arg(format!("printf '%s\\n' {line}")).output().expect("sh can be run");
        let words = String::from_utf8(split.stdout).expect("it is a text");
        let words = words.lines().skip(1).map(str::to_owned);
        if let Err(error) = cli::command().try_get_matches_from(words) {
            assert!(!error.use_stderr(), "{line}: {error}");
        }
    }
}

#[test]
fn every_verb_is_documented() {
    let text = std::fs::read_to_string(root().join("docs/plugin.md")).expect("it is there");
    for verb in cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        assert!(text.contains(&format!("`{}", verb.get_name())), "{}", verb.get_name());
    }
}
