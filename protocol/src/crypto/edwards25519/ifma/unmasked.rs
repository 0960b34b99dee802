//! A load that is not masked.
#![allow(unsafe_code)] // An empty piece of assembly: the compiler cannot look through it.

use std::arch::asm;
use std::arch::x86_64::__m256i;

/// The same, as far as the compiler knows perhaps something else. Otherwise it joins a load with the blend behind it to
/// a load of the lanes that a mask wants, and of an entry of a table that is not wanted the processor then may read
/// nothing: whether the page is there would depend on secrets.
#[target_feature(enable = "avx512ifma,avx512vl")]
#[inline]
pub(super) fn unmasked(mut lanes: __m256i) -> __m256i {
    // SAFETY: it has no instruction.
    unsafe {
        asm!("/* {0} */", inout(ymm_reg) lanes, options(pure, nomem, nostack, preserves_flags));
    }
    lanes
}
