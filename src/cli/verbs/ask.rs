//! What a verb asks for: the annotations, and the words before and after.

use std::collections::BTreeMap;

use crate::api::APPROVED_BY_ANNOTATION;

/// What a verb asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Annotations to set, or to remove where there is no value.
    pub annotations: BTreeMap<&'static str, Option<String>>,
    /// It counts only with the name of who gives it.
    pub names_the_giver: bool,
    /// What a person is asked before it is written.
    pub question: String,
    /// What has been done, once it is written.
    pub done: String,
    /// What the operator does then.
    pub then: String,
}

impl Ask {
    /// Sets one annotation.
    pub fn set(annotation: &'static str, value: String) -> Self {
        Self::new(annotation, Some(value))
    }

    /// Removes one.
    pub fn remove(annotation: &'static str) -> Self {
        Self::new(annotation, None)
    }

    fn new(annotation: &'static str, value: Option<String>) -> Self {
        Self {
            annotations: BTreeMap::from([(annotation, value)]),
            names_the_giver: false,
            question: String::new(),
            done: String::new(),
            then: String::new(),
        }
    }

    /// With its words.
    #[must_use]
    pub fn says(self, question: impl Into<String>, done: impl Into<String>, then: impl Into<String>) -> Self {
        Self { question: question.into(), done: done.into(), then: then.into(), ..self }
    }

    /// Names who gives it.
    pub fn by(&mut self, user: &str) {
        self.annotations.insert(APPROVED_BY_ANNOTATION, Some(user.to_owned()));
        self.done = format!("{} by {user}", self.done);
    }
}
