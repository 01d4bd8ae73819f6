use std::sync::OnceLock;

/// Instruction sets that the kernels are written or compiled for, from the slowest to the fastest of a family.
/// All give the same bits. `Vnni` and `Amx` run the floating-point kernels of `Avx512`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Portable; the reference that the others must equal.
    Scalar,
    /// Armv8 with dot products.
    Neon,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, VL, DQ and BW.
    Avx512,
    /// `Avx512` and its 8-bit dot products.
    Vnni,
    /// `Vnni` and 8-bit tiles, which the operating system must have granted.
    Amx,
}

impl Isa {
    /// Every instruction set, the fastest last.
    pub const ALL: [Self; 6] = [Self::Scalar, Self::Neon, Self::Avx2, Self::Avx512, Self::Vnni, Self::Amx];

    /// The fastest that this machine has. `CUPEL_NATIVE_ISA` = scalar, neon, avx2, avx512, vnni or amx chooses
    /// another one; a name that this machine lacks or that does not exist changes nothing.
    pub fn detect() -> Self {
        let wanted = std::env::var("CUPEL_NATIVE_ISA").ok();
        let wanted = Self::ALL.into_iter().find(|isa| wanted.as_deref() == Some(isa.name()));
        wanted.filter(|isa| isa.is_available()).unwrap_or_else(Self::best)
    }

    /// Lower-case name, as in `CUPEL_NATIVE_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Vnni => "vnni",
            Self::Amx => "amx",
        }
    }

    /// The fastest that this machine has, whatever the environment says.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(probe)
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Neon => Self::best() == Self::Neon,
            _ => Self::best() >= self,
        }
    }

    /// The instruction set of the floating-point kernels.
    pub(crate) fn float(self) -> Self {
        match self {
            Self::Vnni | Self::Amx => Self::Avx512,
            Self::Neon => Self::Scalar,
            other => other,
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn probe() -> Isa {
    if !(is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")) {
        return Isa::Scalar;
    }
    if !(is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw"))
    {
        return Isa::Avx2;
    }
    if !is_x86_feature_detected!("avx512vnni") {
        return Isa::Avx512;
    }
    if super::tiles::tiles_work() {
        Isa::Amx
    } else {
        Isa::Vnni
    }
}

#[cfg(target_arch = "aarch64")]
fn probe() -> Isa {
    if std::arch::is_aarch64_feature_detected!("dotprod") {
        Isa::Neon
    } else {
        Isa::Scalar
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn probe() -> Isa {
    Isa::Scalar
}
