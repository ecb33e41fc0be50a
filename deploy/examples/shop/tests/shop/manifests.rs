//! The manifests, as far as that shows without a cluster.

use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// The text without its first line, which says what the variant is.
fn body(name: &str) -> String {
    read(name).split_once('\n').unwrap().1.to_owned()
}

/// Returns the lines that `longer` has beside those of `shorter`, which must all be there in order.
fn added<'a>(longer: &'a str, shorter: &str) -> Vec<&'a str> {
    let mut rest = shorter.lines().peekable();
    let added = longer.lines().filter(|line| rest.next_if_eq(line).is_none()).collect();
    assert_eq!(rest.next(), None, "a line is missing or out of order");
    added
}

#[test]
fn each_faulty_v2_is_the_good_one_and_its_fault() {
    let good = body("v2/good.yaml");
    let [errors, crash] = ["v2/errors.yaml", "v2/crash.yaml"].map(body);
    let errors = added(&errors, &good);
    assert!(errors.iter().all(|line| line.contains("SHOP_ERRORS")), "{errors:?}");
    let crash = added(&crash, &good);
    assert!(crash.iter().all(|line| line.to_lowercase().contains("crash")), "{crash:?}");
    assert!(!errors.is_empty() && !crash.is_empty());
}

#[test]
fn v2_is_v1_but_for_its_version() {
    let all = read("30-inventory.yaml");
    let v1 = all.split_once("\n---\n").unwrap().1;
    assert_eq!(v1.replace("v1", "v2").replace("apps/v2", "apps/v1"), body("v2/good.yaml"));
}

#[test]
fn each_container_is_as_restricted_as_a_namespace_can_demand() {
    let mut files: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.extend(fs::read_dir(folder().join("v2")).unwrap().map(|entry| entry.unwrap().path()));
    let mut containers = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "yaml")) {
        let text = fs::read_to_string(file).unwrap();
        let count = |line: &str| text.lines().filter(|found| found.trim() == line).count();
        let here = text.lines().filter(|line| line.trim().starts_with("image: ")).count();
        for line in [
            "imagePullPolicy: IfNotPresent",
            "runAsNonRoot: true",
            "seccompProfile: {type: RuntimeDefault}",
            "allowPrivilegeEscalation: false",
            "readOnlyRootFilesystem: true",
            "capabilities: {drop: [ALL]}",
        ] {
            assert_eq!(count(line), here, "{line} in {}", file.display());
        }
        containers += here;
    }
    assert_eq!(containers, 8, "Postgres, its table, Prometheus, v1, three of v2, the load");
}
