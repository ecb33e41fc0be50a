//! Why a command could not be carried out: what is wrong, and what to do about it.

use std::{error::Error as _, io, path::PathBuf};

use kube::config::KubeconfigError;

use super::{
    exit::Code,
    look::{Look, Tone},
};

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is no usable kubeconfig.
    #[error("no cluster to talk to")]
    Kubeconfig(#[source] Box<KubeconfigError>),
    /// A client can't be made of the kubeconfig.
    #[error("the kubeconfig's context can't be used")]
    Client(#[source] Box<kube::Error>),
    /// `--request-timeout` is none.
    #[error("--request-timeout {given:?} is no length of time")]
    RequestTimeout {
        /// What was given.
        given: String,
    },
    /// The Migration isn't there.
    #[error("there is no migration {name} in namespace {namespace}")]
    NotFound {
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// The cluster knows no Migrations.
    #[error("the cluster knows no Migrations (migrations.{})", crate::api::GROUP)]
    NoCrd,
    /// The API server refuses this user.
    #[error("{what}: {said}")]
    Denied {
        /// What was tried.
        what: String,
        /// What the API server says.
        said: String,
    },
    /// The API server can't be asked, or answers with an error.
    #[error("{what}")]
    Api {
        /// What was tried.
        what: String,
        /// What went wrong.
        #[source]
        source: Box<kube::Error>,
    },
    /// The answer can't be read.
    #[error("{what}: the answer can't be read")]
    Unreadable {
        /// What was tried.
        what: String,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A watch has ended for good.
    #[error("the watch of {what} was refused")]
    Watch {
        /// What was watched.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::runtime::watcher::Error>,
    },
    /// A file can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file can't be written.
    #[error("{} can't be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Standard output can't be written to.
    #[error("the output can't be written")]
    Output(#[source] io::Error),
    /// The verb would do nothing, or not what was meant.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
        /// What to do instead.
        instead: Option<String>,
    },
    /// The arguments don't fit together.
    #[error("{why}")]
    Usage {
        /// Why.
        why: String,
        /// What to write instead.
        instead: String,
    },
}

impl Problem {
    /// Sorts what came of a request.
    pub fn of(what: impl Into<String>, error: kube::Error) -> Self {
        let what = what.into();
        match error {
            kube::Error::Api(status) if status.code == 401 || status.code == 403 => {
                Problem::Denied { what, said: status.message.clone() }
            }
            kube::Error::SerdeError(source) => Problem::Unreadable { what, source },
            source => Problem::Api { what, source: Box::new(source) },
        }
    }

    /// How the plugin ends with it.
    pub fn code(&self) -> Code {
        match self {
            Problem::Refused { .. } => Code::Refused,
            Problem::Usage { .. } | Problem::RequestTimeout { .. } => Code::Usage,
            Problem::Kubeconfig(_)
            | Problem::Client(_)
            | Problem::NotFound { .. }
            | Problem::NoCrd
            | Problem::Denied { .. }
            | Problem::Api { .. }
            | Problem::Unreadable { .. }
            | Problem::Watch { .. }
            | Problem::Read { .. }
            | Problem::Write { .. }
            | Problem::Output(_) => Code::Failed,
        }
    }

    /// What to do about it.
    pub fn advice(&self) -> Option<String> {
        match self {
            Problem::Kubeconfig(error) => Some(match **error {
                KubeconfigError::CurrentContextNotSet => {
                    "name a context with --context, or set one: kubectl config use-context NAME".to_owned()
                }
                KubeconfigError::LoadContext(_) => {
                    "the contexts that there are: kubectl config get-contexts".to_owned()
                }
                _ => "name a kubeconfig with --kubeconfig or KUBECONFIG; `kubectl config view` shows the one in use"
                    .to_owned(),
            }),
            Problem::Client(_) => Some("see the context that is used: kubectl config view --minify".to_owned()),
            Problem::RequestTimeout { .. } => Some("write a number and a unit, such as 30s, or 0 for none".to_owned()),
            Problem::NotFound { namespace, .. } => Some(format!(
                "those that there are: kubectl alongside get -n {namespace}, or in all namespaces: kubectl alongside get -A"
            )),
            Problem::NoCrd => Some(
                "is Alongside installed in this cluster? `helm install alongside` brings the CRD; `kubectl config \
                 current-context` says which cluster this is"
                    .to_owned(),
            ),
            Problem::Denied { .. } => Some(
                "the chart's roles: `view` reads migrations, `edit` pauses, aborts and retries, the ClusterRole \
                 alongside-approver approves; `kubectl auth whoami` says who you are"
                    .to_owned(),
            ),
            Problem::Api { source, .. } => match **source {
                kube::Error::Api(_) => None,
                _ => Some("does the cluster answer? kubectl cluster-info".to_owned()),
            },
            Problem::Unreadable { .. } => {
                Some("a newer release may have written it: does the plugin have the operator's version?".to_owned())
            }
            Problem::Watch { .. } => Some("`watch` on migrations is part of the role `view`".to_owned()),
            Problem::Refused { instead, .. } => instead.clone(),
            Problem::Usage { instead, .. } => Some(instead.clone()),
            Problem::Read { .. } | Problem::Write { .. } | Problem::Output(_) => None,
        }
    }

    /// Tells it on standard error: what is wrong with all its causes, and below what to do.
    pub fn tell(&self, look: &Look) {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let said = error.to_string();
            // kube's errors repeat their source's text.
            if !text.ends_with(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = error.source();
        }
        eprintln!("{} {text}", look.paint(Tone::Bad, "error:"));
        if let Some(advice) = self.advice() {
            eprintln!("{} {advice}", look.paint(Tone::Faint, "  try:"));
        }
    }
}
