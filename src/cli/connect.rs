//! From kubectl's flags to a client: kubeconfig, context, namespace, impersonation, as kubectl reads them.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

use super::problem::Problem;
use crate::api::{Migration, Span};

/// kubectl's flags about the cluster and the user.
#[derive(Clone, Debug, Default, Args)]
pub struct ClusterFlags {
    /// Path of the kubeconfig. Default: KUBECONFIG, else ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Cluster")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME", help_heading = "Cluster")]
    context: Option<String>,
    /// Namespace. Default: the context's.
    #[arg(long, short, global = true, value_name = "NAME", help_heading = "Cluster")]
    namespace: Option<String>,
    /// User to act as.
    #[arg(long = "as", global = true, value_name = "USER", help_heading = "Cluster")]
    as_user: Option<String>,
    /// Group to act as; may be given several times.
    #[arg(long, global = true, value_name = "GROUP", help_heading = "Cluster")]
    as_group: Vec<String>,
    /// UID to act as.
    #[arg(long, global = true, value_name = "UID", help_heading = "Cluster")]
    as_uid: Option<String>,
    /// How long to wait for one answer of the API server, such as `30s`; 0 is for ever. A watch goes on.
    #[arg(long, global = true, value_name = "TIME", default_value = "0", help_heading = "Cluster")]
    request_timeout: String,
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Cluster {
    /// For requests with an end.
    pub client: Client,
    /// For watches, which no request timeout may cut.
    pub watching: Client,
    /// The namespace that is meant where none is said.
    pub namespace: String,
}

impl ClusterFlags {
    /// The namespace that was written, if one was.
    pub fn written_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// Makes a client. Asks nothing yet.
    pub async fn connect(&self) -> Result<Cluster, Problem> {
        let timeout = self.timeout()?;
        let mut config = self.config().await?;
        let user = &mut config.auth_info;
        if let Some(name) = &self.as_user {
            user.impersonate = Some(name.clone());
        } else if !self.as_group.is_empty() || self.as_uid.is_some() {
            return Err(Problem::Usage {
                why: "--as-group and --as-uid say more about a user, and none is named".to_owned(),
                instead: "write --as too".to_owned(),
            });
        }
        if !self.as_group.is_empty() {
            user.impersonate_groups = Some(self.as_group.clone());
        }
        if self.as_uid.is_some() {
            user.impersonate_uid.clone_from(&self.as_uid);
        }
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = |config: Config| Client::try_from(config).map_err(|error| Problem::Client(Box::new(error)));
        let watching = client(config.clone())?;
        if let Some(timeout) = timeout {
            config.connect_timeout = Some(timeout);
            config.read_timeout = Some(timeout);
            config.reset_reader_on_write = true;
            // A retry would begin the time anew.
            config.default_retry = false;
        }
        Ok(Cluster { client: client(config)?, watching, namespace })
    }

    async fn config(&self) -> Result<Config, Problem> {
        let refused = |error| Problem::Kubeconfig(Box::new(error));
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let read = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        match read {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(refused),
            // In a pod, kubectl uses the pod's ServiceAccount.
            Err(error @ (KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath)) if self.kubeconfig.is_none() => {
                Config::incluster().map_err(|_| refused(error))
            }
            Err(error) => Err(refused(error)),
        }
    }

    fn timeout(&self) -> Result<Option<Duration>, Problem> {
        let given = self.request_timeout.as_str();
        let refuse = || Problem::RequestTimeout { given: given.to_owned() };
        // kubectl takes bare seconds too.
        let span = match given.parse::<u64>() {
            Ok(seconds) => Span::secs(seconds),
            Err(_) => given.parse::<Span>().map_err(|_| refuse())?,
        };
        Ok((span.0 > Duration::ZERO).then_some(span.0))
    }
}

impl Cluster {
    /// The Migrations of the namespace that is meant.
    pub fn migrations(&self) -> Api<Migration> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The same without the types, so that nothing is lost that a newer release has written.
    pub fn raw(&self, all_namespaces: bool) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<Migration>(&());
        if all_namespaces {
            Api::all_with(self.client.clone(), &kind)
        } else {
            Api::namespaced_with(self.client.clone(), &self.namespace, &kind)
        }
    }

    /// One Migration.
    pub async fn migration(&self, name: &str) -> Result<Migration, Problem> {
        self.migrations().get(name).await.map_err(|error| self.missing(name, error))
    }

    /// Tells a Migration that isn't there from a cluster that knows none.
    pub fn missing(&self, name: &str, error: kube::Error) -> Problem {
        match &error {
            kube::Error::Api(status) if status.code == 404 => {
                // An API server names the object only where it knows its kind.
                if status.details.as_ref().is_some_and(|details| !details.name.is_empty()) {
                    Problem::NotFound { name: name.to_owned(), namespace: self.namespace.clone() }
                } else {
                    Problem::NoCrd
                }
            }
            _ => Problem::of(format!("migration {name} can't be read"), error),
        }
    }
}

/// Sorts what came of listing Migrations.
pub fn unlisted(error: kube::Error) -> Problem {
    match &error {
        kube::Error::Api(status) if status.code == 404 => Problem::NoCrd,
        _ => Problem::of("migrations can't be listed", error),
    }
}
