//! The little DER that keys and signed keys need: definite lengths below 2^24, low tag numbers.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// One element, borrowed from the input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'a> {
    /// Tag, length and content.
    pub raw: &'a [u8],
    pub content: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next element, if it has this tag and a length in its shortest form.
    pub(super) fn take(&mut self, tag: u8) -> Option<Element<'a>> {
        let (&first, rest) = self.0.split_first()?;
        if first != tag {
            return None;
        }
        let (&short, rest) = rest.split_first()?;
        let (length, rest) = if short < 0x80 {
            (usize::from(short), rest)
        } else {
            let digits = usize::from(short & 0x7f);
            if digits == 0 || digits > 3 {
                return None;
            }
            let (digits, rest) = rest.split_at_checked(digits)?;
            let length = digits.iter().fold(0, |n, &digit| n << 8 | usize::from(digit));
            if digits.first() == Some(&0) || length < 0x80 {
                return None;
            }
            (length, rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let raw = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Element { raw, content })
    }
}

/// Appends tag, length and content. Content is always far below 2^24 bytes here.
pub(super) fn put(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let bytes = content.len().to_be_bytes();
    let leading = bytes.iter().take_while(|&&b| b == 0).count();
    let digits = bytes.get(leading..).unwrap_or_default();
    if content.len() < 0x80 {
        out.extend(digits.last().copied().or(Some(0)));
    } else {
        // At most 8 digits, so the cast keeps the value.
        #[allow(clippy::cast_possible_truncation)]
        out.push(0x80 | digits.len() as u8);
        out.extend_from_slice(digits);
    }
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_around_the_limits_of_their_forms() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let content = vec![7; length];
            let mut out = Vec::new();
            put(&mut out, OCTET_STRING, &content);
            let mut der = Der::new(&out);
            let element = der.take(OCTET_STRING).unwrap();
            assert_eq!(element.content, content);
            assert_eq!(element.raw, out);
            assert!(der.is_empty());
            for end in 0..out.len().min(300) {
                assert!(Der::new(&out[..end]).take(OCTET_STRING).is_none());
            }
        }
    }

    #[test]
    fn long_forms_of_short_lengths_are_refused() {
        for wrong in [&[4, 0x81, 1, 0][..], &[4, 0x82, 0, 0x80], &[4, 0x80, 0, 0], &[4, 0x84, 0, 0, 0, 1, 0]]
        {
            assert!(Der::new(wrong).take(OCTET_STRING).is_none(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), tag: u8) {
            let mut der = Der::new(&bytes);
            while let Some(element) = der.take(tag) {
                prop_assert!(element.content.len() < element.raw.len());
            }
        }
    }
}
