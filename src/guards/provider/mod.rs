//! Metrics providers: what the administrator allows to be asked, by whom, and with which credentials.
//!
//! A Migration names a provider and never a URL, else the operator would carry anyone's requests into the network.

mod config;
mod credentials;

use std::{collections::BTreeMap, path::Path, sync::Arc};

pub use config::{AllowedNamespaces, BasicAuth, ConfigError, ProviderConfig, Tenant};
pub use credentials::{CredentialError, Credentials};

use super::prometheus::{Client, ClientError};

/// The provider that a Migration asks if it names none.
pub const DEFAULT_PROVIDER: &str = "default";

/// The providers configured, by name.
#[derive(Clone, Debug, Default)]
pub struct Providers(BTreeMap<String, Arc<Provider>>);

/// One provider: who may ask it, and the client that does.
#[derive(Debug)]
pub struct Provider {
    /// Its name, as Migrations write it.
    pub name: String,
    allowed: AllowedNamespaces,
    /// Asks it.
    pub client: Client,
}

/// Why the providers can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The list can't be read or makes no sense.
    #[error("the list of metrics providers can't be used")]
    Config(#[source] ConfigError),
    /// A provider's client can't be built.
    #[error("metrics provider `{name}` can't be set up")]
    Client {
        /// Name of the provider.
        name: String,
        /// Why.
        #[source]
        source: ClientError,
    },
}

/// Why a Migration may not ask a provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Nobody configured it.
    #[error("there is no metrics provider `{name}`; the administrator has configured: {known}")]
    Unknown {
        /// The name written.
        name: String,
        /// The names that this namespace may write.
        known: String,
    },
    /// It is for other namespaces.
    #[error(
        "metrics provider `{name}` isn't allowed in namespace `{namespace}`; the administrator lists a provider's namespaces in `allowedNamespaces`"
    )]
    NotAllowed {
        /// The name written.
        name: String,
        /// The Migration's namespace.
        namespace: String,
    },
}

impl Providers {
    /// Reads the administrator's list from a file. Credentials are read later, whenever they are needed.
    ///
    /// # Errors
    /// The file can't be read, isn't such a list, or names a CA that can't be used.
    pub fn load(path: &Path) -> Result<Self, SetUpError> {
        Self::set_up(config::load(path).map_err(SetUpError::Config)?)
    }

    /// Sets up providers from what the administrator wrote.
    ///
    /// # Errors
    /// A name is there twice, or a client can't be built.
    pub fn set_up(configs: Vec<ProviderConfig>) -> Result<Self, SetUpError> {
        config::check(&configs).map_err(SetUpError::Config)?;
        let mut providers = BTreeMap::new();
        for config in configs {
            let (name, allowed) = (config.name.clone(), config.allowed_namespaces.clone());
            let client = Client::new(&config).map_err(|source| SetUpError::Client { name: name.clone(), source })?;
            providers.insert(name.clone(), Arc::new(Provider { name, allowed, client }));
        }
        Ok(Self(providers))
    }

    /// The provider of this name, for a Migration in `namespace`.
    ///
    /// # Errors
    /// There is none, or it isn't allowed there.
    pub fn find(&self, name: &str, namespace: &str) -> Result<&Arc<Provider>, AccessError> {
        let Some(provider) = self.0.get(name) else {
            let known = self.0.values().filter(|provider| provider.allowed.allow(namespace));
            let known: Vec<_> = known.map(|provider| provider.name.as_str()).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(AccessError::Unknown { name: name.to_owned(), known });
        };
        if provider.allowed.allow(namespace) {
            Ok(provider)
        } else {
            Err(AccessError::NotAllowed { name: name.to_owned(), namespace: namespace.to_owned() })
        }
    }
}
