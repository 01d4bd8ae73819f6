use super::block_kind::BlockKind;

/// A kind as a type, so that the kernels are compiled for each.
pub(crate) trait Kind {
    const KIND: BlockKind;
}

macro_rules! kinds {
    ($($kind:ident),*) => {
        $(
            #[allow(non_camel_case_types)]
            pub(crate) struct $kind;
            impl Kind for $kind {
                const KIND: BlockKind = BlockKind::$kind;
            }
        )*
    };
}
kinds!(Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4K, Q5K, Q6K);

/// Calls a function that is generic over kinds.
macro_rules! by_kind {
    ($kind:expr, $function:ident, ($($argument:expr),*)) => {
        $crate::kinds::by_kind!($kind, $function, <>, ($($argument),*))
    };
    ($kind:expr, $function:ident, <$($other:ident)?>, ($($argument:expr),*)) => {{
        use $crate::block_kind::BlockKind;
        use $crate::kinds;
        match $kind {
            BlockKind::Q8_0 => $function::<kinds::Q8_0 $(, $other)?>($($argument),*),
            BlockKind::Q4_0 => $function::<kinds::Q4_0 $(, $other)?>($($argument),*),
            BlockKind::Q4_1 => $function::<kinds::Q4_1 $(, $other)?>($($argument),*),
            BlockKind::Q5_0 => $function::<kinds::Q5_0 $(, $other)?>($($argument),*),
            BlockKind::Q5_1 => $function::<kinds::Q5_1 $(, $other)?>($($argument),*),
            BlockKind::Q4K => $function::<kinds::Q4K $(, $other)?>($($argument),*),
            BlockKind::Q5K => $function::<kinds::Q5K $(, $other)?>($($argument),*),
            BlockKind::Q6K => $function::<kinds::Q6K $(, $other)?>($($argument),*),
        }
    }};
}
pub(crate) use by_kind;
