//! The curve with AVX-512 IFMA.
//!
//! | module | what it knows |
//! |---|---|
//! | `lanes` | the field: four elements at once |
//! | `unmasked` | how the compiler is kept from reading only what a secret mask wants |
//! | `extended` | points: four coordinates at once |
//! | `tables` | two multiples from tables that were made ahead |
//! | `fixed` | multiples of the base point by secret numbers, four at once |
//! | `many` | the sum of many multiples of points that are not known before, decoded eight at once |

mod extended;
mod fixed;
mod lanes;
mod many;
mod tables;
mod unmasked;

pub(in crate::crypto) use tables::Multiples;

/// Shows that this processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(in crate::crypto) struct Ifma(());

impl Ifma {
    pub(in crate::crypto) fn get() -> Option<Self> {
        (is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512ifma")).then_some(Self(()))
    }
}
