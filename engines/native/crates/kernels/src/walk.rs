use std::ops::Range;

/// Bytes of weights that all rows pass through before the next ones: a part of the second-level cache.
const STRIP: usize = 160 << 10;

/// One tile of a product.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) struct Part {
    pub row: usize,
    pub height: usize,
    pub panel: usize,
    pub wide: usize,
    /// Panels from these to those that memory should be asked for now, or 0.
    pub ahead: usize,
    /// The tiles of a strip share the asking: of `turns` blocks this one does that of number `turn`.
    pub turn: usize,
    pub turns: usize,
}

/// Visits all tiles of a product in an order that keeps a strip of panels in the second-level cache while all rows pass
/// through it, and lets the outputs of a row in a strip lie together.
pub(crate) fn walk(
    rows: Range<usize>,
    tallest: usize,
    panels: Range<usize>,
    at_once: usize,
    panel_bytes: usize,
    mut visit: impl FnMut(Part),
) {
    let turns = rows.len().div_ceil(tallest);
    let strip = if turns == 1 { at_once } else { (STRIP / panel_bytes.max(1)).clamp(1, 64) };
    let strip = strip.next_multiple_of(at_once);
    for first in panels.clone().step_by(strip) {
        let end = (first + strip).min(panels.end);
        for turn in 0..turns {
            // Tiles of nearly equal height.
            let row = rows.start + rows.len() * turn / turns;
            let height = rows.start + rows.len() * (turn + 1) / turns - row;
            for panel in (first..end).step_by(at_once) {
                let wide = at_once.min(end - panel);
                let ahead = if panel + strip + wide <= panels.end { strip } else { 0 };
                visit(Part { row, height, panel, wide, ahead, turn, turns });
            }
        }
    }
}
