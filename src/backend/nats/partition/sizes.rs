//! Sizes: how large a delivery is to be expected, from those that came.
//!
//! The server is asked for a number of deliveries, and how many bytes they are is learned when they come. So the largest of late
//! counts, and fades.

/// Faded by this part of it with every delivery.
const FADES: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    largest: usize,
}

impl Sizes {
    pub(super) fn note(&mut self, size: usize) {
        let faded = self.largest - self.largest / FADES;
        self.largest = faded.max(size);
    }

    /// How many are about so many bytes; one at least, of any size.
    pub(super) fn fit(&self, bytes: usize) -> u32 {
        let number = bytes / self.largest.max(1);
        u32::try_from(number).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_counts_and_is_forgotten() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.fit(8000), 8000, "nothing is known");
        sizes.note(10);
        sizes.note(4000);
        sizes.note(10);
        assert_eq!(sizes.fit(8000), 2);
        sizes.note(1_000_000);
        assert_eq!(sizes.fit(8000), 1);
        (0..1000).for_each(|_| sizes.note(100));
        assert_eq!(sizes.fit(8000), 80);
    }
}
