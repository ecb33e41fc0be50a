//! The API server of this run, and what asking it to take a Migration comes to.

use std::{sync::LazyLock, time::Duration};

use alongside::api::Migration;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams},
    core::response::{Status, StatusCause},
};

use crate::support::{
    cluster::{Cluster, root},
    wait::within,
};

/// One API server for all tests of this binary, with the CRD as it is shipped.
pub static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
    let cluster = Cluster::api_only("admission");
    let crd = root().join("crds/alongside.dev_migrations.yaml");
    cluster.kubectl(&["apply".as_ref(), "-f".as_ref(), crd.as_os_str()]);
    cluster.run(async || {
        let migrations = migrations(cluster.client());
        within(Duration::from_secs(30), "the API server serves Migrations", async || {
            migrations.list(&ListParams::default()).await
        })
        .await;
    });
    cluster
});

/// A Migration whose text is `spec`, indented or not, in the namespace `default`.
pub fn migration(name: &str, spec: &str) -> String {
    let mut text = format!("apiVersion: alongside.dev/v1alpha1\nkind: Migration\nmetadata:\n  name: {name}\nspec:\n");
    for line in spec.lines() {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Creates an object from YAML just as written. Fields that the schema doesn't know are refused, as kubectl does it.
/// `Err` holds what the user reads.
pub async fn create(client: &Client, yaml: &str) -> Result<Migration, String> {
    let request =
        http::Request::post("/apis/alongside.dev/v1alpha1/namespaces/default/migrations?fieldValidation=Strict")
            .header("content-type", "application/yaml")
            .body(yaml.as_bytes().to_vec())
            .expect("a request of constant parts");
    client.request(request).await.map_err(|error| words(&error))
}

/// What the API server said, a line per cause: the field, if one is to blame, and the message.
pub fn words(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return format!("not an answer of the API server: {error}") };
    causes(status).unwrap_or_else(|| status.message.clone())
}

fn causes(status: &Status) -> Option<String> {
    let causes = &status.details.as_ref()?.causes;
    let own = causes.iter().filter(|cause| !cause.message.ends_with(NOT_ALL_CHECKED));
    let line = |cause: &StatusCause| match cause.field.as_str() {
        "" => cause.message.clone(),
        field => format!("{field}: {}", cause.message),
    };
    let lines: Vec<_> = own.map(line).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What the API server adds, about the object as a whole, where a type or a bound of the schema is not met.
const NOT_ALL_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing \
                               errors to complete validation";

/// The Migrations of the namespace `default`.
pub fn migrations(client: Client) -> Api<Migration> {
    Api::namespaced(client, "default")
}

/// One thing that a user can write and shouldn't.
#[derive(Clone, Copy)]
pub struct Case {
    /// What is wrong, as a sentence; the test's name.
    pub sentence: &'static str,
    /// The spec as written.
    pub wrote: &'static str,
    /// All that the API server says, word for word.
    pub heard: &'static str,
    /// The spec as the message says to write it.
    pub writes: &'static str,
}

impl Case {
    /// The bad spec is refused with exactly these words and leaves nothing; the good one is accepted, and read by
    /// the operator's own types.
    pub fn holds(&self) {
        let name = name_of(self.sentence);
        CLUSTER.run(async || {
            let client = CLUSTER.client();
            let migrations = migrations(client.clone());
            let refused = create(&client, &migration(&name, self.wrote)).await.map(|taken| taken.name_any());
            assert_eq!(refused, Err(self.heard.to_owned()));
            let left = migrations.get_metadata_opt(&name).await.expect("the API server answers");
            assert!(left.is_none(), "{name} was refused and is there all the same");
            let taken =
                create(&client, &migration(&name, self.writes)).await.expect("what the message says is accepted");
            migrations.delete(&taken.name_any(), &DeleteParams::default()).await.expect("it can be deleted");
        });
    }
}

/// An object's name from a sentence: within 63 characters, and ending in a letter.
pub fn name_of(sentence: &str) -> String {
    let mut name = sentence.replace('_', "-");
    name.truncate(63);
    name.trim_end_matches('-').to_owned()
}

/// A test for each case, and all of them as the list `CASES`.
macro_rules! refused {
    ($($sentence:ident { wrote: $wrote:expr, heard: $heard:expr, writes: $writes:expr $(,)? })*) => {
        pub const CASES: &[$crate::server::Case] = &[$($crate::server::Case {
            sentence: stringify!($sentence),
            wrote: $wrote,
            heard: $heard,
            writes: $writes,
        }),*];

        $(#[test]
        fn $sentence() {
            let case = CASES.iter().find(|case| case.sentence == stringify!($sentence));
            case.expect("each sentence has its case").holds();
        })*
    };
}
pub(crate) use refused;
