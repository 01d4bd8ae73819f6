use std::fmt;

use crate::dtype::Dtype;
use crate::error::{Error, Result, TENSOR_NONFINITE};
use crate::quant;

/// How the numbers of a weight are stored. The quantized types are ggml's, see [`quant`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorType {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
    /// One int8 a weight and one scale a row, which lies in another tensor ([`TensorView::scale`]).
    ChannelInt8,
}

impl TensorType {
    /// All types that a GGUF file may hold and this crate reads, with ggml's number, the weights of a block and its
    /// bytes. Source: the GGUF specification, ggml/docs/gguf.md.
    const GGML: [(Self, u32, usize, usize); 11] = [
        (Self::F32, 0, 1, 4),
        (Self::F16, 1, 1, 2),
        (Self::Q4_0, 2, 32, 18),
        (Self::Q4_1, 3, 32, 20),
        (Self::Q5_0, 6, 32, 22),
        (Self::Q5_1, 7, 32, 24),
        (Self::Q8_0, 8, 32, 34),
        (Self::Q4K, 12, 256, 144),
        (Self::Q5K, 13, 256, 176),
        (Self::Q6K, 14, 256, 210),
        (Self::Bf16, 30, 1, 2),
    ];

    /// Name in messages, ggml's where there is one.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::ChannelInt8 => "I8 with a scale a row",
        }
    }

    /// ggml's number of the type; none for [`TensorType::ChannelInt8`].
    pub fn ggml(self) -> Option<u32> {
        Self::GGML.iter().find(|(kind, ..)| *kind == self).map(|(_, number, ..)| *number)
    }

    /// The type of a number of ggml's.
    pub fn from_ggml(number: u32) -> Option<Self> {
        Self::GGML.iter().find(|(_, candidate, ..)| *candidate == number).map(|(kind, ..)| *kind)
    }

    /// Weights of a block; a row is a whole number of blocks.
    pub fn block_length(self) -> usize {
        self.block().0
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.block().1
    }

    fn block(self) -> (usize, usize) {
        let known = Self::GGML.iter().find(|(kind, ..)| *kind == self);
        known.map_or((1, 1), |(_, _, length, bytes)| (*length, *bytes))
    }

    /// Bytes of a row; none where `columns` is not a whole number of blocks (or absurd).
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let (length, bytes) = self.block();
        if columns.is_multiple_of(length) {
            (columns / length).checked_mul(bytes)
        } else {
            None
        }
    }

    /// The plain element type, where it is one.
    pub fn dtype(self) -> Option<Dtype> {
        match self {
            Self::F32 => Some(Dtype::F32),
            Self::F16 => Some(Dtype::F16),
            Self::Bf16 => Some(Dtype::Bf16),
            _ => None,
        }
    }
}

impl From<Dtype> for TensorType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::Bf16,
        }
    }
}

/// A matrix in a mapped file, `rows` × `columns`, row-major; a vector has one row. Every byte that it names is known
/// to lie inside the file.
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    pub kind: TensorType,
    pub rows: usize,
    pub columns: usize,
    pub(crate) data: &'a [u8],
    /// Width of a head whose rows llama.cpp stores with the two halves interleaved.
    pub(crate) interleaved: Option<usize>,
    /// Scales of the rows, for [`TensorType::ChannelInt8`].
    pub(crate) scales: Option<(Dtype, &'a [u8])>,
    /// Path of the file, and name of the tensor in it.
    pub(crate) file: &'a std::path::Path,
    pub(crate) name: &'a str,
}

impl<'a> TensorView<'a> {
    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.data.len() / self.rows.max(1)
    }

    /// Stored bytes of row `index` (below `rows`). Rows of query and key projections come in the order of Hugging
    /// Face files, whichever order the file has.
    pub fn row(&self, index: usize) -> &'a [u8] {
        let stored = match self.interleaved {
            None => index,
            Some(width) => {
                let (head, place) = (index / width, index % width);
                head * width + place % (width / 2) * 2 + place / (width / 2)
            }
        };
        let bytes = self.row_bytes();
        &self.data[stored * bytes..][..bytes]
    }

    /// The whole tensor as it is stored, where its rows lie in the order of [`TensorView::row`].
    pub fn contiguous(&self) -> Option<&'a [u8]> {
        self.interleaved.is_none().then_some(self.data)
    }

    /// Row `index` as f32, exactly the stored values; `out` has `columns` numbers.
    pub fn decode_row(&self, index: usize, out: &mut [f32]) {
        let row = self.row(index);
        if self.kind == TensorType::ChannelInt8 {
            let scale = self.scale(index);
            for (value, byte) in out.iter_mut().zip(row) {
                *value = f32::from(*byte as i8) * scale;
            }
        } else {
            quant::decode_row(self.kind, row, out);
        }
    }

    /// Scale of row `index` of a [`TensorType::ChannelInt8`] tensor; 1 for other types.
    pub fn scale(&self, index: usize) -> f32 {
        let Some((dtype, bytes)) = self.scales else {
            return 1.0;
        };
        let mut value = [0.0];
        dtype.decode(&bytes[index * dtype.size()..][..dtype.size()], &mut value);
        value[0]
    }

    /// File and name of the tensor, for messages.
    pub fn place(&self) -> String {
        format!("{}: {}", self.file.display(), self.name)
    }

    /// Refuses NaN and infinity; the error names file, tensor, index (row × columns + column) and value. Reads the
    /// whole tensor.
    pub fn check_finite(&self) -> Result<()> {
        let mut values = Vec::new();
        for row in 0..self.rows {
            if quant::is_finite(self.kind, self.row(row)) && self.scale(row).is_finite() {
                continue;
            }
            values.resize(self.columns, 0.0);
            self.decode_row(row, &mut values);
            let found = values.iter().position(|value| !value.is_finite());
            let (column, value) = found.map_or((0, self.scale(row)), |column| (column, values[column]));
            let message = format!("element {} is {value}", row * self.columns + column);
            return Err(Error::new(TENSOR_NONFINITE, message)
                .at(self.place())
                .remedy("train or convert the checkpoint again"));
        }
        Ok(())
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} [{}, {}] {}", self.name, self.rows, self.columns, self.kind.name())
    }
}
