//! Which vector instructions a batch runs on.

/// A set of vector instructions that the kernels are written for, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Platform {
    /// x86-64 with AVX-512 (F, BW, DQ, VL), GFNI, VAES and VPCLMULQDQ beside AVX2 and AES-NI: Intel Ice Lake, AMD Zen 4 and later.
    Avx512,
    /// x86-64 with AVX2 and AES-NI: whatever else was built since 2015.
    Avx2,
    /// Any machine, in safe Rust on 64-bit words.
    Portable,
}

impl Platform {
    /// Every platform, best first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// Those that this machine has, best first. The last is [`Platform::Portable`].
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|platform| platform.is_available())
    }

    /// The best that this machine has.
    #[must_use]
    pub fn best() -> Self {
        Self::available().next().unwrap_or(Self::Portable)
    }

    /// Whether this machine has the instructions. The only place that asks the processor.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("gfni")
                    && is_x86_feature_detected!("vaes")
                    && is_x86_feature_detected!("vpclmulqdq")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("aes"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    /// The platform's name in measurements.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }
}
