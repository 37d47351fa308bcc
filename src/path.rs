//! The path of a cache on its server: the one that the user configured, or one that another machine
//! gives for its own cache.

/// Bytes of a path that another machine gives: several times what those in use have.
pub const PATH_MAX: usize = 64;
/// Paths kept besides the configured one: the root, that of an earlier search, and one for each of the
/// 64 instances that `announced` keeps, so that nobody's paths leave others none.
const PATHS_MAX: usize = 66;

/// Which of the known paths: a byte, for a thousand candidates have one each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathId(u8);

impl PathId {
    /// The one that the user configured.
    pub const CONFIGURED: Self = Self(0);
}

/// The paths that are known.
#[derive(Clone, Debug, Default)]
pub struct Paths(Vec<String>);

impl Paths {
    /// The `configured` one and no other.
    #[must_use]
    pub fn new(configured: String) -> Self {
        Self(vec![configured])
    }

    /// Keeps the path that another machine spells `bytes`. `None` when there are too many, and where
    /// it is not a plain one.
    ///
    /// It goes into an HTTP request, and in nix.conf into a URL. So it has none but letters, digits
    /// and `-._~` between its slashes (the unreserved characters, RFC 3986 §2.3): nothing there means
    /// anything else, or is written in another way, to Nix, to the server or to a reader of the file.
    /// It is absolute, and has no empty segments, no `.` and no `..`, which HTTP clients resolve.
    pub fn add(&mut self, bytes: &[u8]) -> Option<PathId> {
        let path = str::from_utf8(bytes).ok().filter(|path| path.len() <= PATH_MAX)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let is_segment =
            |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_plain);
        if bytes.first() != Some(&b'/') || !path.split('/').skip(1).all(is_segment) {
            return None;
        }
        let index = self.0.iter().position(|known| known == path).or_else(|| {
            (self.0.len() <= PATHS_MAX).then(|| {
                self.0.push(path.to_owned());
                self.0.len() - 1
            })
        })?;
        u8::try_from(index).ok().map(PathId)
    }

    /// Forgets all but the configured one and `kept`: which that is from now on.
    pub fn forget_others(&mut self, kept: PathId) -> PathId {
        let mut ids = (0..=u8::MAX).map(PathId);
        self.0.retain(|_| ids.next().is_some_and(|id| id == PathId::CONFIGURED || id == kept));
        PathId(kept.0.min(1))
    }

    /// The text of the path: a leading slash and no final one; empty for the root.
    #[must_use]
    pub fn text(&self, id: PathId) -> &str {
        self.0.get(usize::from(id.0)).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_few_plain_words() {
        let longest = format!("/{}", "x".repeat(PATH_MAX - 1));
        let mut paths = Paths::new("/system".to_owned());
        for (text, path) in [
            ("/", ""),
            ("/system", "/system"),
            ("/a/B-c_d.e~9/", "/a/B-c_d.e~9"),
            (&longest, &longest),
        ] {
            let id = paths.add(text.as_bytes()).unwrap();
            assert_eq!(paths.text(id), path, "{text}");
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
            assert_eq!(paths.add(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(paths.add(b"/\xff"), None);
    }

    #[test]
    fn each_path_has_one_number() {
        let mut paths = Paths::new("/system".to_owned());
        assert_eq!(paths.add(b"/system/"), Some(PathId::CONFIGURED));
        let root = paths.add(b"/").unwrap();
        assert_eq!(paths.add(b"/"), Some(root));
        assert_eq!((paths.text(PathId::CONFIGURED), paths.text(root)), ("/system", ""));
        let added = (0..100).filter(|number| paths.add(format!("/{number}").as_bytes()).is_some());
        assert_eq!(added.count(), PATHS_MAX - 1);
        let last = paths.add(b"/7").unwrap();
        assert_eq!(paths.text(last), "/7");
        let kept = paths.forget_others(last);
        assert_eq!((paths.text(PathId::CONFIGURED), paths.text(kept)), ("/system", "/7"));
        assert_eq!(paths.0.len(), 2);
        assert_eq!(paths.forget_others(kept), kept);
        assert_eq!(paths.forget_others(PathId::CONFIGURED), PathId::CONFIGURED);
        assert_eq!(paths.0, ["/system"]);
    }
}
