use proptest::prelude::*;

use super::*;

fn target(uri: &str) -> Target {
    match read(uri, Path::new("/etc/store"), "alongside") {
        Ok(target) => target,
        Err(error) => panic!("{uri} was refused: {error}"),
    }
}

fn refusal(uri: &str) -> UriError {
    match read(uri, Path::new("/etc/store"), "alongside") {
        Ok(_) => panic!("{uri} was accepted"),
        Err(error) => error,
    }
}

#[test]
fn a_uri_is_read_into_its_parts() {
    let target = target("postgresql://app:s%40cret@db.shop:6432/orders?connect_timeout=3\n");
    assert_eq!(target.config.get_user(), Some("app"));
    assert_eq!(target.config.get_password(), Some(&b"s@cret"[..]));
    assert_eq!(target.config.get_application_name(), Some("alongside"));
    assert_eq!(target.place, "db.shop:6432/orders");
    assert_eq!(target.tls, TlsOptions { mode: SslMode::Prefer, roots: Roots::System, identity: None });
    assert_eq!(target.redactor.redact("s@cret s%40cret"), "*** ***");
}

#[test]
fn tls_options_mean_what_they_mean_to_libpq() {
    let beside = |name: &str| Roots::File(PathBuf::from("/etc/store").join(name));
    for (query, mode, roots) in [
        ("", SslMode::Prefer, Roots::System),
        ("sslmode=disable", SslMode::Disable, Roots::System),
        ("sslmode=allow", SslMode::Prefer, Roots::System),
        ("sslmode=require", SslMode::Require, Roots::System),
        ("sslmode=require&sslrootcert=ca.crt", SslMode::VerifyCa, beside("ca.crt")),
        ("sslmode=verify-ca&sslrootcert=%2Ftmp%2Fca.crt", SslMode::VerifyCa, Roots::File("/tmp/ca.crt".into())),
        ("sslmode=verify-full", SslMode::VerifyFull, Roots::System),
        ("sslrootcert=system", SslMode::VerifyFull, Roots::System),
    ] {
        let tls = target(&format!("postgres://app@db/x?{query}")).tls;
        assert_eq!(tls, TlsOptions { mode, roots, identity: None }, "{query}");
    }
    let identity = target("postgres://app@db/x?sslcert=tls.crt&sslkey=tls.key").tls.identity;
    assert_eq!(identity, Some(("/etc/store/tls.crt".into(), "/etc/store/tls.key".into())));
}

#[test]
fn of_several_hosts_the_one_that_takes_writes_is_meant() {
    let read_write = target("postgres://app@a,b:5433/x").config;
    assert_eq!(read_write.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    assert_eq!(target("postgres://app@a,b:5433/x").place, "a:5432,b:5433/x");
    let asked = target("postgres://app@a,b/x?target_session_attrs=read-only").config;
    assert_eq!(asked.get_target_session_attrs(), TargetSessionAttrs::ReadOnly);
    assert_eq!(target("postgres://app@a/x").config.get_target_session_attrs(), TargetSessionAttrs::Any);
}

#[test]
fn each_refusal_says_what_to_write() {
    for (uri, expected) in [
        ("host=db user=app", UriError::NotAUri),
        ("mysql://app@db", UriError::NotAUri),
        ("", UriError::NotAUri),
        ("postgres://app:p@ss@db/x", UriError::StrayAt),
        ("postgres://app@db/x?y=a@b", UriError::StrayAt),
        ("postgres://app@db:port/x", UriError::Unreadable),
        ("postgres://app@db/x?sslmode", UriError::Unreadable),
        ("postgres:///x?user=app", UriError::NoHost),
        ("postgres://db/x", UriError::NoUser),
        ("postgres://app@db/x?pgbouncer=true", UriError::UnknownOption { name: "pgbouncer".into() }),
        ("postgres://app@db/x?sslcert=a", UriError::HalfIdentity),
        ("postgres://app@db/x?sslrootcert=system&sslmode=require", UriError::WeakSystemRoots),
    ] {
        assert_eq!(refusal(uri), expected, "{uri}");
    }
    let mode = refusal("postgres://app@db/x?sslmode=full").to_string();
    assert!(mode.contains("`sslmode`") && mode.contains("verify-full"), "{mode}");
}

proptest! {
    #[test]
    fn a_password_never_shows_in_a_refusal_or_a_place(password in "[a-zA-Z0-9@/:?&=#% ]{6,20}") {
        prop_assume!(!"postgres://user:password@host:5432/database".contains(&password));
        let uri = format!("postgres://app:{password}@db/x");
        match read(&uri, Path::new("/"), "alongside") {
            Ok(target) => {
                prop_assert!(!target.place.contains(&password));
                prop_assert!(!target.redactor.redact(&uri).contains(&password));
            }
            Err(error) => prop_assert!(!error.to_string().contains(&password), "{}", error),
        }
    }
}
