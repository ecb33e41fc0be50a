//! Names that go into SQL text, which can't bind them.

use std::fmt;

/// A name by itself, as the server stores it; quoted where it is displayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ident<T = String>(pub T);

impl<T: AsRef<str>> fmt::Display for Ident<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.as_ref().replace('"', "\"\""))
    }
}

/// A name inside a schema, as the server stores it; quoted where it is displayed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QualifiedName {
    /// The schema.
    pub schema: String,
    /// The name.
    pub name: String,
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", Ident(&self.schema), Ident(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_so_that_nothing_breaks_out() {
        let name = QualifiedName { schema: "Shop \"x\"".into(), name: "a; DROP TABLE b".into() };
        assert_eq!(name.to_string(), "\"Shop \"\"x\"\"\".\"a; DROP TABLE b\"");
    }
}
