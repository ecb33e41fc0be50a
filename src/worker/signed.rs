//! Requests that the operator signs and a worker checks: Ed25519 over what is asked of whom and when.
//!
//! The worker's task holds public keys alone, so no secret is in it. A request is good for one migration, one path, one
//! body and [`WINDOW`]; within it a recorded one can be played again, so what it asks for must be idempotent.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How far the clocks of operator and worker may be apart, the request's way included.
pub const WINDOW: Duration = Duration::from_mins(1);
/// Header: the migration's UID.
pub const UID_HEADER: &str = "alongside-uid";
/// Header: milliseconds since the Unix epoch.
pub const TIME_HEADER: &str = "alongside-time";
/// Header: the signature, in hexadecimal digits.
pub const SIGNATURE_HEADER: &str = "alongside-signature";
/// What is signed begins with this, so that a signature means nothing anywhere else.
const PURPOSE: &str = "alongside-worker-request-1";

/// An Ed25519 public key; 64 hexadecimal digits on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// Path and query, as sent.
    pub path: &'a str,
    /// The migration's UID.
    pub uid: &'a str,
    /// Milliseconds since the Unix epoch.
    pub time: u64,
    /// The body.
    pub body: &'a [u8],
}

/// Why a request isn't answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// A header is missing or no header of ours.
    #[error("the request isn't signed")]
    Missing,
    /// It is about another migration.
    #[error("the request is for another migration")]
    OtherMigration,
    /// It is from another time.
    #[error("the request's time is more than {} s off", WINDOW.as_secs())]
    Stale,
    /// Nobody who is known has signed it.
    #[error("the signature doesn't match")]
    Forged,
}

/// A key can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no Ed25519 key: {0}")]
pub struct BadKey(String);

/// Signs requests. Its key never leaves it.
pub struct Signer {
    key: Ed25519KeyPair,
}

impl Signer {
    /// With a private key in PKCS#8 (DER), version 1 or 2.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, BadKey> {
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|error| BadKey(error.to_string()))?;
        Ok(Self { key })
    }

    /// With a private key in PEM, as `openssl genpkey -algorithm ed25519` writes it.
    pub fn from_pem(text: &[u8]) -> Result<Self, BadKey> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|error| BadKey(error.to_string()))?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// A new private key in PKCS#8 (DER).
    pub fn generate() -> Result<Vec<u8>, BadKey> {
        let random = ring::rand::SystemRandom::new();
        let document = Ed25519KeyPair::generate_pkcs8(&random).map_err(|error| BadKey(error.to_string()))?;
        Ok(document.as_ref().to_vec())
    }

    /// The key that checks what this one signs.
    pub fn public_key(&self) -> PublicKey {
        let bytes = self.key.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes");
        PublicKey(bytes)
    }

    /// The headers to send with a request.
    pub fn headers(&self, request: &Request<'_>) -> [(&'static str, String); 3] {
        let signature = hex(self.key.sign(&message(request)).as_ref());
        [(UID_HEADER, request.uid.to_owned()), (TIME_HEADER, request.time.to_string()), (SIGNATURE_HEADER, signature)]
    }
}

/// Checks requests.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// Keys of the operator: the one of now, and while it changes the one before.
    pub keys: Vec<PublicKey>,
    /// The migration's UID.
    pub uid: String,
}

impl Verifier {
    /// Checks a request by its headers. `header` looks one up; `now` is milliseconds since the Unix epoch.
    pub fn check<'a>(
        &self,
        method: &str,
        path: &str,
        header: impl Fn(&str) -> Option<&'a str>,
        body: &[u8],
        now: u64,
    ) -> Result<(), Unsigned> {
        let uid = header(UID_HEADER).ok_or(Unsigned::Missing)?;
        let time: u64 = header(TIME_HEADER).and_then(|time| time.parse().ok()).ok_or(Unsigned::Missing)?;
        let signature = header(SIGNATURE_HEADER).and_then(bytes_of).ok_or(Unsigned::Missing)?;
        let signed = message(&Request { method, path, uid, time, body });
        let good = |key: &PublicKey| UnparsedPublicKey::new(&ED25519, key.0).verify(&signed, &signature).is_ok();
        // The signature first: nobody else learns from the answer which migration this is, or what time it has.
        if !self.keys.iter().any(good) {
            return Err(Unsigned::Forged);
        }
        if uid != self.uid {
            return Err(Unsigned::OtherMigration);
        }
        let off = Duration::from_millis(now.abs_diff(time));
        if off > WINDOW { Err(Unsigned::Stale) } else { Ok(()) }
    }
}

/// Milliseconds since the Unix epoch.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What is signed. Each part but the last is without line breaks or of fixed length, so no two requests read alike.
fn message(request: &Request<'_>) -> Vec<u8> {
    let Request { method, path, uid, time, body } = request;
    let body = hex(&Sha256::digest(body));
    let lengths = [method.len(), path.len(), uid.len()];
    format!("{PURPOSE}\n{lengths:?}\n{method}\n{path}\n{uid}\n{time}\n{body}").into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes_of(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = bytes_of(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| serde::de::Error::custom("a public key is 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn signer() -> Signer {
        Signer::from_pkcs8(&Signer::generate().unwrap()).unwrap()
    }

    fn check(verifier: &Verifier, request: &Request<'_>, headers: &[(&str, String)], now: u64) -> Result<(), Unsigned> {
        let header = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        verifier.check(request.method, request.path, header, request.body, now)
    }

    #[test]
    fn what_the_operator_signed_is_good_for_that_request_alone() {
        let signer = signer();
        let verifier = Verifier { keys: vec![signer.public_key()], uid: "u-1".into() };
        let request = Request { method: "POST", path: "/cut-over", uid: "u-1", time: NOW, body: b"{}" };
        let headers = signer.headers(&request);
        assert_eq!(check(&verifier, &request, &headers, NOW + 5_000), Ok(()));
        for other in [
            Request { method: "GET", ..request },
            Request { path: "/back", ..request },
            Request { body: b"{ }", ..request },
        ] {
            assert_eq!(check(&verifier, &other, &headers, NOW), Err(Unsigned::Forged), "{other:?}");
        }
    }

    #[test]
    fn an_old_request_one_for_another_migration_and_a_strangers_are_refused() {
        let (signer, stranger) = (signer(), self::signer());
        let verifier = Verifier { keys: vec![signer.public_key()], uid: "u-1".into() };
        let request = Request { method: "GET", path: "/state", uid: "u-1", time: NOW, body: b"" };
        let headers = signer.headers(&request);
        assert_eq!(check(&verifier, &request, &headers, NOW + 60_001), Err(Unsigned::Stale));
        assert_eq!(check(&verifier, &request, &headers, NOW - 60_001), Err(Unsigned::Stale));
        let elsewhere = Request { uid: "u-2", ..request };
        assert_eq!(check(&verifier, &elsewhere, &signer.headers(&elsewhere), NOW), Err(Unsigned::OtherMigration));
        assert_eq!(check(&verifier, &request, &stranger.headers(&request), NOW), Err(Unsigned::Forged));
        assert_eq!(check(&verifier, &request, &headers[..2], NOW), Err(Unsigned::Missing));
    }

    #[test]
    fn a_new_key_can_be_known_before_the_old_one_is_forgotten() {
        let (old, new) = (signer(), signer());
        let verifier = Verifier { keys: vec![old.public_key(), new.public_key()], uid: "u-1".into() };
        let request = Request { method: "GET", path: "/state", uid: "u-1", time: NOW, body: b"" };
        assert_eq!(check(&verifier, &request, &old.headers(&request), NOW), Ok(()));
        assert_eq!(check(&verifier, &request, &new.headers(&request), NOW), Ok(()));
    }

    #[test]
    fn a_public_key_survives_the_wire_and_nothing_else_is_one() {
        let key = signer().public_key();
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<PublicKey>(&text).unwrap(), key);
        assert!(serde_json::from_str::<PublicKey>("\"abcd\"").is_err());
        assert!(serde_json::from_str::<PublicKey>("\"äöü\"").is_err());
    }
}
