//! Arithmetic with one order of operations for every instruction set.
//!
//! Row kernels are one source compiled several times: rustc never reassociates floating point, so the
//! compilations agree bit by bit. The matrix product is written with intrinsics; see `gemm.rs` for why its
//! bits agree too.

mod gemm;
mod math;
mod rows;

pub use gemm::{gemm, pack_columns, pack_left, pack_rows, panel_count, tile_rows, Left, Line, Panels, PANEL};
pub use math::{cos_sin, exp, exp_f64, ln, log_f64, power};
pub use rows::*;

/// Instruction sets that the kernels are compiled for. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    Scalar,
    Avx2,
    Avx512,
}

impl Isa {
    /// The fastest that this machine has. `CUPEL_NATIVE_ISA` = scalar, avx2 or avx512 lowers it.
    pub fn detect() -> Self {
        let best = Self::best();
        match std::env::var("CUPEL_NATIVE_ISA").as_deref() {
            Ok("scalar") => Self::Scalar,
            Ok("avx2") if best != Self::Scalar => Self::Avx2,
            _ => best,
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn best() -> Self {
        if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")) {
            return Self::Scalar;
        }
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
        {
            return Self::Avx512;
        }
        Self::Avx2
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn best() -> Self {
        Self::Scalar
    }

    /// Refuses an instruction set that this machine lacks.
    pub(crate) fn require(self) -> crate::error::Result<()> {
        if self.is_available() {
            return Ok(());
        }
        let message = format!("this machine has no {self:?}");
        Err(crate::error::Error::new(crate::error::CONFIG_INVALID, message))
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Avx2 => Self::best() != Self::Scalar,
            Self::Avx512 => Self::best() == Self::Avx512,
        }
    }
}
