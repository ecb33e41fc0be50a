//! What a provider wants to see with each request, from files that may be replaced at any time (a rotated Secret).

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::config::{BasicAuth, ProviderConfig};

/// How long a file that was read is trusted. The kubelet itself takes up to a minute to bring a rotated Secret.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Why credentials can't be had. Never holds their text.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file's text can't stand in a header.
    #[error("{} holds what can't be sent in a header", path.display())]
    NotAHeader {
        /// The file.
        path: PathBuf,
    },
    /// A header can't have this name.
    #[error("{name:?} can't be the name of a header")]
    Name {
        /// The name written.
        name: String,
    },
    /// The tenant can't stand in a header.
    #[error("the tenant's name can't be sent in a header")]
    Tenant,
}

/// A provider's credentials, read again once they may have changed.
pub struct Credentials {
    from_files: Vec<(HeaderName, Source)>,
    fixed: HeaderMap,
    read: Mutex<Option<(Instant, HeaderMap)>>,
}

enum Source {
    Plain(PathBuf),
    Bearer(PathBuf),
    Basic(BasicAuth),
}

impl Credentials {
    /// Those that a configuration names. Their files aren't read yet.
    ///
    /// # Errors
    /// A header's name or the tenant can't be sent.
    pub fn of(config: &ProviderConfig) -> Result<Self, CredentialError> {
        let mut from_files = Vec::new();
        for (name, path) in &config.headers_from_files {
            from_files.push((header_name(name)?, Source::Plain(path.clone())));
        }
        from_files.extend(config.bearer_token_file.clone().map(|path| (AUTHORIZATION, Source::Bearer(path))));
        from_files.extend(config.basic_auth.clone().map(|auth| (AUTHORIZATION, Source::Basic(auth))));
        let mut fixed = HeaderMap::new();
        if let Some(tenant) = &config.tenant {
            let value = HeaderValue::from_str(&tenant.value).map_err(|_| CredentialError::Tenant)?;
            fixed.insert(header_name(&tenant.header)?, value);
        }
        Ok(Self { from_files, fixed, read: Mutex::new(None) })
    }

    /// The headers to send now. Reads small mounted files, at most every two seconds.
    ///
    /// # Errors
    /// A file can't be read or sent.
    pub fn headers(&self) -> Result<HeaderMap, CredentialError> {
        if self.from_files.is_empty() {
            return Ok(self.fixed.clone());
        }
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, headers)) = read.as_ref()
            && at.elapsed() < READ_AGAIN_AFTER
        {
            return Ok(headers.clone());
        }
        let mut headers = self.fixed.clone();
        for (name, source) in &self.from_files {
            headers.insert(name, source.value()?);
        }
        *read = Some((Instant::now(), headers.clone()));
        Ok(headers)
    }

    /// Forgets what was read: the provider has refused it.
    pub fn read_again(&self) {
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.from_files.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Credentials").field("from_files", &names).finish_non_exhaustive()
    }
}

impl Source {
    fn value(&self) -> Result<HeaderValue, CredentialError> {
        let (text, path) = match self {
            Self::Plain(path) => (secret(path)?, path),
            Self::Bearer(path) => (format!("Bearer {}", secret(path)?), path),
            Self::Basic(auth) => {
                let pair = format!("{}:{}", secret(&auth.username_file)?, secret(&auth.password_file)?);
                (format!("Basic {}", base64(pair.as_bytes())), &auth.password_file)
            }
        };
        let not_a_header = |_| CredentialError::NotAHeader { path: path.clone() };
        let mut value = HeaderValue::from_str(&text).map_err(not_a_header)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn header_name(name: &str) -> Result<HeaderName, CredentialError> {
    name.parse().map_err(|_| CredentialError::Name { name: name.to_owned() })
}

fn secret(path: &Path) -> Result<String, CredentialError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| CredentialError::Read { path: path.to_owned(), source })?;
    // Editors and `echo` leave a line break at the end.
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let at = |index: usize| group.get(index).copied().unwrap_or(0);
        let bits = u32::from(at(0)) << 16 | u32::from(at(1)) << 8 | u32::from(at(2));
        for place in 0..4 {
            let sign = SIGNS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(sign) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("Aladdin:open sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
