//! The path of a cache on its server: the one that the user configured, or one that another machine
//! gives for its own cache.

/// Bytes of a path that another machine gives: several times what those in use have.
pub const PATH_MAX: usize = 64;
/// Paths kept besides the configured one. Most machines give the same few.
const PATHS_MAX: usize = 32;

/// A path that another machine gives, with a leading slash and no final one; empty for the root.
///
/// It goes into an HTTP request, and in nix.conf into a URL. So it has none but letters, digits and
/// `-._~` between its slashes (the unreserved characters, RFC 3986 §2.3): nothing there means
/// anything else, or is written in another way, to Nix, to the server or to a reader of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CachePath {
    /// Its text, and zeros.
    bytes: [u8; PATH_MAX],
    /// How long the text is.
    length: u8,
}

impl CachePath {
    /// The path spelt `bytes`, of at most 64 bytes. `None` for anything that is not absolute, has
    /// other characters, or has empty segments, `.` or `..`, which HTTP clients resolve by themselves.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > PATH_MAX || bytes.first() != Some(&b'/') {
            return None;
        }
        let path = bytes.strip_suffix(b"/").unwrap_or(bytes);
        let is_segment = |segment: &[u8]| {
            !matches!(segment, b"" | b"." | b"..")
                && segment.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte))
        };
        // Before the first slash there is nothing.
        if !path.split(|byte| *byte == b'/').skip(1).all(is_segment) {
            return None;
        }
        let mut parsed = Self { bytes: [0; PATH_MAX], length: u8::try_from(path.len()).ok()? };
        parsed.bytes.get_mut(..path.len())?.copy_from_slice(path);
        Some(parsed)
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let text = self.bytes.get(..self.length.into()).unwrap_or_default();
        str::from_utf8(text).unwrap_or_default()
    }
}

impl std::fmt::Debug for CachePath {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Which of a search's paths: a byte, for a thousand candidates have one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathId(u8);

impl PathId {
    /// The one that the user configured.
    pub const CONFIGURED: Self = Self(0);
}

/// The paths of a search.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    /// The configured one, of any length.
    configured: String,
    /// Those that other machines give, each once.
    given: Vec<CachePath>,
}

impl Paths {
    /// The `configured` one and no other.
    #[must_use]
    pub const fn new(configured: String) -> Self {
        Self { configured, given: Vec::new() }
    }

    /// Keeps a path; `None` when there are too many.
    pub fn add(&mut self, path: CachePath) -> Option<PathId> {
        if path.as_str() == self.configured {
            return Some(PathId::CONFIGURED);
        }
        let index = self.given.iter().position(|known| *known == path).or_else(|| {
            (self.given.len() < PATHS_MAX).then(|| {
                self.given.push(path);
                self.given.len() - 1
            })
        })?;
        u8::try_from(index + 1).ok().map(PathId)
    }

    /// The path, unless it is the configured one.
    #[must_use]
    pub fn given(&self, id: PathId) -> Option<CachePath> {
        self.given.get(usize::from(id.0).checked_sub(1)?).copied()
    }

    /// The text of the path.
    #[must_use]
    pub fn text(&self, id: PathId) -> &str {
        let index = usize::from(id.0).checked_sub(1);
        index.and_then(|index| self.given.get(index)).map_or(&self.configured, CachePath::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of what is made of a path.
    fn parsed(text: &str) -> Option<String> {
        CachePath::parse(text.as_bytes()).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn a_path_is_a_few_plain_words() {
        let longest = format!("/{}", "x".repeat(63));
        for (text, path) in [
            ("/", ""),
            ("/system", "/system"),
            ("/a/B-c_d.e~9/", "/a/B-c_d.e~9"),
            (&longest, &longest),
        ] {
            assert_eq!(parsed(text).as_deref(), Some(path), "{text}");
        }
        for bad in [
            "",
            "system",
            "//",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/a/../b",
            "/a b",
            "/a#b",
            "/a?b",
            "/a\"b",
            "/a\nb",
            "/a\r\nX: y",
            "/a\0",
            "/a\\b",
            "/a<b>",
            "/a'b",
            "/a`b",
            "/a%2e%2e",
            "/a%20b",
            "/ä",
            "/[a]",
            "/a{b}",
            "/a|b",
            "/a^b",
            "/a&b=c",
            "/a$b",
            "/a;b",
            "/a@b:c",
            &format!("{longest}x"),
            &format!("{longest}/"),
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        assert_eq!(CachePath::parse(b"/\xff"), None);
    }

    #[test]
    fn each_path_has_one_number() {
        let path = |text: &str| CachePath::parse(text.as_bytes()).unwrap();
        let mut paths = Paths::new("/system".to_owned());
        assert_eq!(paths.add(path("/system/")), Some(PathId::CONFIGURED));
        assert_eq!(paths.given(PathId::CONFIGURED), None);
        let root = paths.add(path("/")).unwrap();
        assert_eq!(paths.add(path("/")), Some(root));
        assert_eq!((paths.text(PathId::CONFIGURED), paths.text(root)), ("/system", ""));
        assert_eq!(paths.given(root), Some(path("/")));
        let added = (0..100).filter(|number| paths.add(path(&format!("/{number}"))).is_some());
        assert_eq!(added.count(), PATHS_MAX - 1);
        assert_eq!(
            paths.add(path("/0")).map(|id| paths.text(id).to_owned()),
            Some("/0".to_owned())
        );
    }
}
