//! What `tests/admission` shows an API server to refuse, taken as texts: `lint` has to find the same without one.

/// One thing that a user can write and shouldn't.
#[derive(Clone, Copy)]
pub struct Case {
    /// What is wrong, as a sentence.
    pub sentence: &'static str,
    /// The spec as written.
    pub wrote: &'static str,
    /// What the API server says.
    pub heard: &'static str,
    /// The spec as the message says to write it.
    pub writes: &'static str,
}

/// All cases of a file as the list `CASES`.
macro_rules! refused {
    ($($sentence:ident { wrote: $wrote:expr, heard: $heard:expr, writes: $writes:expr $(,)? })*) => {
        pub const CASES: &[$crate::server::Case] = &[$($crate::server::Case {
            sentence: stringify!($sentence),
            wrote: $wrote,
            heard: $heard,
            writes: $writes,
        }),*];
    };
}
pub(crate) use refused;
