//! Takes credentials out of text that leaves the worker: status, Events and logs are read by many.

/// What stands where a credential was.
const MASK: &str = "***";
/// Shorter passwords aren't looked for word by word: they would tear holes into every sentence, and give nothing away
/// where nobody can tell that they are one.
const SHORTEST: usize = 4;

/// Knows the secrets of one connection.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<String>,
}

// Deliberately without the secrets: a Debug text ends up in logs.
impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl Redactor {
    /// Knows these secrets: the whole URI, the password as written and as decoded.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<_> = secrets.into_iter().filter(|secret| secret.len() >= SHORTEST).collect();
        // The longest first, so that a URI goes as a whole before its password tears it apart.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// The text without the secrets known, and without what has the form of one.
    pub fn redact(&self, text: &str) -> String {
        let known = self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASK));
        mask_passwords(&mask_user_info(&known))
    }
}

/// `scheme://user:password@host` becomes `scheme://***@host`.
fn mask_user_info(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (head, tail) = rest.split_at(at + 3);
        out.push_str(head);
        let end = tail.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '/')).unwrap_or(tail.len());
        match tail[..end].rfind('@') {
            Some(user_info) => {
                out.push_str(MASK);
                rest = &tail[user_info..];
            }
            None => rest = tail,
        }
    }
    out.push_str(rest);
    out
}

/// `password=x`, `PASSWORD 'x'` and `password = 'x'` lose their value.
fn mask_passwords(text: &str) -> String {
    const WORD: &str = "password";
    let lower = text.to_ascii_lowercase();
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(found) = lower[from..].find(WORD) {
        let after = from + found + WORD.len();
        let gap = text[after..].find(|c: char| !(c.is_whitespace() || c == '=')).unwrap_or(text.len() - after);
        let value = after + gap;
        let quoted = text[value..].starts_with(['\'', '"']);
        let assigned = text[after..value].contains('=');
        out.push_str(&text[from..value]);
        from = value;
        if !quoted && !assigned {
            continue;
        }
        let start = value + usize::from(quoted);
        let end = if quoted {
            text[start..].find(['\'', '"']).map(|length| start + length + 1)
        } else {
            text[start..]
                .find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '&' | ';' | ')'))
                .map(|n| start + n)
        };
        out.push_str(MASK);
        from = end.unwrap_or(text.len());
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_secrets_vanish_wherever_they_stand() {
        let redactor =
            Redactor::new(["p@ss word".to_owned(), "p%40ss%20word".to_owned(), String::new(), "abc".to_owned()]);
        assert_eq!(redactor.redact("tried p@ss word, then p%40ss%20word; abc"), "tried ***, then ***; abc");
        assert!(!format!("{redactor:?}").contains("p@ss"));
    }

    #[test]
    fn what_has_the_form_of_a_credential_vanishes_too() {
        let redactor = Redactor::default();
        for (text, expected) in [
            ("dial postgres://app:s3cret@db:5432/shop failed", "dial postgres://***@db:5432/shop failed"),
            ("see https://example.org/a@b", "see https://example.org/a@b"),
            ("CREATE ROLE app PASSWORD 's3cret' LOGIN", "CREATE ROLE app PASSWORD *** LOGIN"),
            ("CONNECTION 'host=db password=s3cret user=a'", "CONNECTION 'host=db password=*** user=a'"),
            ("CONNECTION 'host=db password=s3cret'", "CONNECTION 'host=db password=***'"),
            ("OPTIONS (user 'a', Password 's3cret')", "OPTIONS (user 'a', Password ***)"),
            ("password authentication failed for user \"app\"", "password authentication failed for user \"app\""),
            ("the password", "the password"),
            ("password='unclosed", "password=***"),
        ] {
            assert_eq!(redactor.redact(text), expected);
        }
    }
}
