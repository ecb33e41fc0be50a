//! Requests of the operator to its own workers, signed so that nobody else is listened to.
//!
//! The signature is Ed25519 over method, path, UID of the Migration, time and body. A worker is told the public key in its
//! task, so no secret has to reach it; the private key never leaves the operator's pod. It doesn't hide what is said, which
//! is why nothing secret is said.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use ring::{
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use sha2::{Digest, Sha256};

use crate::{
    api::{Span, Time},
    engine::plan::hex,
};

/// The header that carries the signature: the time in milliseconds and the signature in hexadecimal, a space between.
pub const HEADER: &str = "alongside-signature";
/// How far the clocks of two nodes may differ. For as long a request is remembered, so that it can't be repeated.
const MAX_SKEW: Span = Span::secs(60);
/// Requests that are remembered at most; more in that time would not be ours.
const MAX_REMEMBERED: usize = 4096;

/// Signs what the operator asks.
pub struct Signer(Ed25519KeyPair);

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not PEM.
    #[error("the file holds no private key in PEM (PKCS#8)")]
    Pem(#[source] rustls::pki_types::pem::Error),
    /// PEM of something else.
    #[error("the private key is no Ed25519 key; make one with `openssl genpkey -algorithm ed25519`")]
    Kind,
    /// No randomness.
    #[error("the system gave no randomness for a key")]
    Random,
}

impl Signer {
    /// A key for as long as this process lives.
    pub fn generate() -> Result<Self, KeyError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Random)?;
        Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map(Self).map_err(|_| KeyError::Kind)
    }

    /// A key that all replicas share.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(KeyError::Pem)?;
        // What OpenSSL and Helm write has no public key in it to check the private one against.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map(Self).map_err(|_| KeyError::Kind)
    }

    /// What a worker knows the signer by, in hexadecimal.
    pub fn public_key(&self) -> String {
        hex(self.0.public_key().as_ref())
    }

    /// The header's value for a request.
    pub fn sign(&self, method: &str, path: &str, uid: &str, body: &[u8], now: Time) -> String {
        let signature = self.0.sign(message(method, path, uid, body, now).as_bytes());
        format!("{} {}", now.0, hex(signature.as_ref()))
    }
}

/// Knows whether a request is the operator's.
#[derive(Debug)]
pub struct Verifier {
    uid: String,
    keys: Vec<Vec<u8>>,
    seen: Mutex<BTreeSet<(i64, Vec<u8>)>>,
}

/// Why a request is not listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No signature, or one that can't be read.
    #[error("the request carries no signature")]
    Unsigned,
    /// By another key, or over another request.
    #[error("the signature is not the operator's for this request")]
    Foreign,
    /// From another time.
    #[error("the request is from another time: clocks differ, or it is old")]
    Stale,
    /// It has been here before.
    #[error("the request has been made before")]
    Repeated,
}

impl Verifier {
    /// Listens to requests for the Migration with this UID by whoever holds one of these keys. A key that can't be read
    /// matches nothing.
    pub fn new(uid: &str, keys: &[String]) -> Self {
        Self { uid: uid.to_owned(), keys: keys.iter().filter_map(|key| unhex(key)).collect(), seen: Mutex::default() }
    }

    /// Whether to listen.
    pub fn verify(
        &self,
        method: &str,
        path: &str,
        header: Option<&str>,
        body: &[u8],
        now: Time,
    ) -> Result<(), Refused> {
        let (at, signature) = header.and_then(|value| value.split_once(' ')).ok_or(Refused::Unsigned)?;
        let at = Time(at.parse().map_err(|_| Refused::Unsigned)?);
        let signature = unhex(signature).ok_or(Refused::Unsigned)?;
        let message = message(method, path, &self.uid, body, at);
        let valid =
            |key: &Vec<u8>| UnparsedPublicKey::new(&ED25519, key).verify(message.as_bytes(), &signature).is_ok();
        if !self.keys.iter().any(valid) {
            return Err(Refused::Foreign);
        }
        if now.0.abs_diff(at.0) > MAX_SKEW.0.as_millis().try_into().unwrap_or(u64::MAX) {
            return Err(Refused::Stale);
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // What is too old to pass needn't be remembered; what is from ahead passes for twice as long.
        let oldest = now.0.saturating_sub(MAX_SKEW.as_millis());
        seen.retain(|(at, _)| *at >= oldest);
        if seen.len() >= MAX_REMEMBERED || !seen.insert((at.0, signature)) {
            return Err(Refused::Repeated);
        }
        Ok(())
    }
}

fn message(method: &str, path: &str, uid: &str, body: &[u8], at: Time) -> String {
    format!("alongside 1\n{method}\n{path}\n{uid}\n{}\n{}", at.0, hex(&Sha256::digest(body)))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_800_000_000_000);

    fn pair() -> (Signer, Verifier) {
        let signer = Signer::generate().unwrap();
        let verifier = Verifier::new("u-1", &[signer.public_key()]);
        (signer, verifier)
    }

    #[test]
    fn a_request_of_the_operator_is_listened_to_once() {
        let (signer, verifier) = pair();
        let header = signer.sign("POST", "/v1/exchange", "u-1", b"{}", NOW);
        let verify = || verifier.verify("POST", "/v1/exchange", Some(&header), b"{}", NOW.after(Span::secs(1)));
        assert_eq!((verify(), verify()), (Ok(()), Err(Refused::Repeated)));
    }

    #[test]
    fn a_request_with_anything_changed_is_foreign() {
        let (signer, verifier) = pair();
        let header = signer.sign("POST", "/v1/exchange", "u-1", b"{}", NOW);
        for (method, path, body) in
            [("GET", "/v1/exchange", &b"{}"[..]), ("POST", "/v1/leave", b"{}"), ("POST", "/v1/exchange", b"{ }")]
        {
            assert_eq!(
                verifier.verify(method, path, Some(&header), body, NOW),
                Err(Refused::Foreign),
                "{method} {path}"
            );
        }
        let other = signer.sign("POST", "/v1/exchange", "u-2", b"{}", NOW);
        assert_eq!(verifier.verify("POST", "/v1/exchange", Some(&other), b"{}", NOW), Err(Refused::Foreign));
        let stranger = Signer::generate().unwrap().sign("POST", "/v1/exchange", "u-1", b"{}", NOW);
        assert_eq!(verifier.verify("POST", "/v1/exchange", Some(&stranger), b"{}", NOW), Err(Refused::Foreign));
    }

    #[test]
    fn a_request_from_another_time_or_without_a_signature_is_refused() {
        let (signer, verifier) = pair();
        let header = signer.sign("GET", "/state", "u-1", b"", NOW);
        for later in [Span::secs(61), Span::secs(3_600)] {
            assert_eq!(verifier.verify("GET", "/state", Some(&header), b"", NOW.after(later)), Err(Refused::Stale));
        }
        for broken in [None, Some(""), Some("12"), Some("x 00"), Some("1800000000000 0g")] {
            assert_eq!(verifier.verify("GET", "/state", broken, b"", NOW), Err(Refused::Unsigned), "{broken:?}");
        }
    }

    #[test]
    fn replicas_share_a_key_by_its_file() {
        let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        let (one, two) = (Signer::from_pem(pem.as_bytes()).unwrap(), Signer::from_pem(pem.as_bytes()).unwrap());
        assert_eq!(one.public_key(), two.public_key());
        let verifier = Verifier::new("u-1", &[one.public_key()]);
        assert_eq!(verifier.verify("GET", "/", Some(&two.sign("GET", "/", "u-1", b"", NOW)), b"", NOW), Ok(()));
        assert!(matches!(Signer::from_pem(b"no key"), Err(KeyError::Pem(_))));
    }
}
