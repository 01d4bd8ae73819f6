use crate::pages::ROOT;
use crate::{PrefixCache, PAGE};

impl PrefixCache {
    /// Checks everything that must hold between calls, by counting anew; the first thing that does not hold is
    /// returned. O(pages × log pages). For tests.
    pub fn verify(&self) -> Result<(), String> {
        let mut free = self.free.clone();
        free.sort_unstable();
        if free.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("a page is free twice".into());
        }
        let mut pinned = vec![0u32; self.pages.len()];
        let (mut cached, mut idle, mut leaves) = (0, 0, 0);
        for (page, entry) in (0u32..).zip(&self.pages) {
            let is_free = free.binary_search(&page).is_ok();
            if is_free != (entry.references == 0 && !entry.cached()) {
                return Err(format!("page {page}: free is {is_free} with {} references", entry.references));
            }
            if !entry.cached() {
                if !entry.children.is_empty() {
                    return Err(format!("page {page} is outside the tree and has children"));
                }
                continue;
            }
            cached += 1;
            idle += usize::from(!entry.pinned());
            leaves += usize::from(entry.evictable());
            if entry.evictable() && !self.leaves.contains(&(entry.used, page)) {
                return Err(format!("page {page} is evictable and not listed"));
            }
            if entry.parent != ROOT {
                let parent = self.page(entry.parent);
                if !parent.cached() || parent.space != entry.space || usize::from(parent.filled) != PAGE {
                    return Err(format!("page {page} hangs below page {}, which cannot carry it", entry.parent));
                }
                if parent.serial >= entry.serial {
                    return Err(format!("page {page} is older than its parent {}", entry.parent));
                }
                pinned[entry.parent as usize] += u32::from(entry.pinned());
            }
            if !self.children(entry.space, entry.parent).contains(&page) {
                return Err(format!("page {page} is missing among its parent's children"));
            }
        }
        for (page, entry) in (0u32..).zip(&self.pages) {
            if entry.cached() && entry.pinned_children != pinned[page as usize] {
                return Err(format!("page {page}: {} pinned children, counted {pinned:?}", entry.pinned_children));
            }
        }
        if (cached, idle, leaves) != (self.cached, self.idle, self.leaves.len()) {
            return Err(format!("counted {:?}, noted {:?}", (cached, idle, leaves), (self.cached, self.idle)));
        }
        let inner = self.pages.iter().filter(|entry| entry.cached()).map(|entry| &entry.children);
        let mut listed = 0;
        for children in self.roots.values().chain(inner) {
            listed += children.len();
            for pair in children.windows(2) {
                let (left, right) = (self.page(pair[0]).block(), self.page(pair[1]).block());
                if left >= right || right.starts_with(left) {
                    return Err(format!("pages {} and {} stand in the wrong order", pair[0], pair[1]));
                }
            }
        }
        if listed != cached || self.roots.values().any(Vec::is_empty) {
            return Err(format!("{listed} children for {cached} cached pages"));
        }
        Ok(())
    }
}
