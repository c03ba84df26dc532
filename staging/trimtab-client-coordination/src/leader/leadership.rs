//! What the work is given while it leads.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lease::Validity;

/// One time of leading, from when the lease was acquired until the work has ended. Clones are the same.
#[derive(Clone, Debug)]
pub struct Leadership {
    pub(super) fencing_token: u64,
    pub(super) stop: CancellationToken,
    pub(super) validity: Validity,
}

impl Leadership {
    /// Greater than that of every leadership before, as long as the Lease is not deleted: its count of transitions. What
    /// keeps the greatest that it has seen, and refuses writes with a lower one, is safe from writes of former leaders that
    /// were held up on their way.
    pub fn fencing_token(&self) -> u64 {
        self.fencing_token
    }

    /// Is cancelled when the work must end: the elector was told to stop, or the lease could not be renewed. The work has
    /// the configured grace for it, but in the second case not beyond [`Leadership::valid_until`].
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Whether nobody else can lead yet, by this process' clock: to be asked before what cannot be undone. False once the
    /// work has ended.
    pub fn is_valid(&self) -> bool {
        self.validity.is_valid()
    }

    /// Until when that is so if the lease is not renewed, which it usually is; none when it is over.
    pub fn valid_until(&self) -> Option<Instant> {
        self.validity.until().filter(|until| Instant::now() < *until)
    }
}
