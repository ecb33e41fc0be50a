//! The mark on a Service: who wrote it last, and why. Every write to a Service is a compare-and-swap on it, so a late
//! write of a frozen leader finds another mark and is refused (design section 4).

use std::{fmt, str::FromStr};

/// What the last write of ours did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Took the Service for this Migration; traffic has not moved.
    Claimed,
    /// Moved traffic to the new side.
    Forward,
    /// Moved traffic back, or made sure that it can't move forward any more. Evidence of a rollback.
    Back,
    /// Gave the Service up.
    Released,
}

/// The mark.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// UID of the Migration that wrote it.
    pub uid: String,
    /// Its attempt.
    pub attempt: u32,
    /// Number of the write.
    pub epoch: u64,
    /// What the write did.
    pub role: Role,
}

/// A mark that nobody of us wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mark of ours; it should read <uid>/<attempt>/<epoch>/<role>")]
pub struct NoMark(pub String);

impl Role {
    const ALL: [(Role, &'static str); 4] =
        [(Role::Claimed, "claimed"), (Role::Forward, "forward"), (Role::Back, "back"), (Role::Released, "released")];
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = Role::ALL.iter().find(|(role, _)| *role == self.role).map_or("", |(_, name)| name);
        write!(f, "{}/{}/{}/{role}", self.uid, self.attempt, self.epoch)
    }
}

impl FromStr for Mark {
    type Err = NoMark;

    fn from_str(text: &str) -> Result<Self, NoMark> {
        let refuse = || NoMark(text.to_owned());
        let [uid, attempt, epoch, role] = text.split('/').collect::<Vec<_>>()[..] else { return Err(refuse()) };
        let (role, _) = Role::ALL.into_iter().find(|(_, name)| *name == role).ok_or_else(refuse)?;
        let attempt = attempt.parse().map_err(|_| refuse())?;
        let epoch = epoch.parse().map_err(|_| refuse())?;
        if uid.is_empty() { Err(refuse()) } else { Ok(Self { uid: uid.to_owned(), attempt, epoch, role }) }
    }
}
