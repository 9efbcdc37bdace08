//! To be written.

use crate::world::Case;

pub fn cases() -> Vec<Case> {
    vec![]
}
