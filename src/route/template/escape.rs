//! What each broker takes as an address, and how a stranger's text becomes one harmless token of it.
//!
//! Metadata is chosen by whoever starts a sandbox. A space or a line break in a NATS subject injects protocol, a dot
//! adds a level, a wildcard is refused or, worse, matched. So whatever an expression puts in is escaped; only the
//! operator's own literal text keeps its meaning.

/// The kind of address that a template is rendered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// Letters, digits, `.`, `_` and `-`, at most 249 of them (Kafka's `Topic.validate`).
    KafkaTopic,
    /// Any bytes; the broker reads no meaning into them.
    KafkaKey,
    /// Non-empty tokens between dots; `*` and `>` are wildcards, white space ends the subject (NATS protocol).
    NatsSubject,
    /// Words between dots, of at most 255 bytes together (AMQP 0.9.1 `shortstr`).
    AmqpRoutingKey,
}

impl Escape {
    /// What messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::KafkaTopic => "kafka topic",
            Self::KafkaKey => "kafka key",
            Self::NatsSubject => "nats subject",
            Self::AmqpRoutingKey => "amqp routing key",
        }
    }

    /// The longest rendered address, in bytes.
    ///
    /// NATS itself bounds only the protocol line (`max_control_line`, 4096 bytes by default), which holds the reply
    /// subject too. A Kafka key has no limit of its own; this one keeps it far below a record's.
    pub fn max_bytes(self) -> usize {
        match self {
            Self::KafkaTopic => 249,
            Self::KafkaKey => 4096,
            Self::NatsSubject => 2048,
            Self::AmqpRoutingKey => 255,
        }
    }

    /// Whether `letter` cannot stand in the template's own text.
    pub(super) fn refuses_literal(self, letter: char) -> bool {
        match self {
            Self::KafkaTopic => !(letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-')),
            Self::KafkaKey => false,
            Self::NatsSubject => letter.is_whitespace() || letter.is_control() || matches!(letter, '*' | '>'),
            Self::AmqpRoutingKey => letter.is_control(),
        }
    }

    /// A lower bound, in bytes, of what `value` becomes.
    pub(super) fn least_bytes(self, value: &str) -> usize {
        match self {
            Self::KafkaTopic => value.chars().count(),
            Self::KafkaKey | Self::NatsSubject | Self::AmqpRoutingKey => value.len(),
        }
    }

    /// Appends `value` as one token.
    pub(super) fn token(self, value: &str, out: &mut String) {
        for letter in value.chars() {
            let special = letter == '.' || self.addresses_server(letter, out);
            self.push(letter, special, out);
        }
    }

    /// Appends an event type, whose dots stay where they separate words: `a..b` or `.a` would make an empty token.
    pub(super) fn dotted(self, value: &str, out: &mut String) {
        let mut rest = value.chars().peekable();
        let mut word_before = false;
        while let Some(letter) = rest.next() {
            if letter == '.' {
                let separates = word_before && rest.peek().is_some_and(|next| *next != '.');
                self.push(letter, !separates, out);
                word_before = !separates;
            } else {
                self.push(letter, self.addresses_server(letter, out), out);
                word_before = true;
            }
        }
    }

    /// `$SYS` and `$JS` address the NATS server itself when they begin a subject.
    fn addresses_server(self, letter: char, so_far: &str) -> bool {
        self == Self::NatsSubject && letter == '$' && so_far.is_empty()
    }

    fn push(self, letter: char, special_here: bool, out: &mut String) {
        match self {
            Self::KafkaTopic if special_here || self.refuses_literal(letter) => out.push('_'),
            Self::KafkaTopic => out.push(letter),
            _ if special_here || is_special(letter) => percent(letter, out),
            _ => out.push(letter),
        }
    }
}

/// Wildcards and separators of any of the brokers, what `%XX` itself is written with, and whatever cannot be seen.
/// The dot is decided by the caller.
fn is_special(letter: char) -> bool {
    matches!(letter, '*' | '>' | '#' | '/' | '%') || letter.is_whitespace() || letter.is_control() || is_format(letter)
}

/// Unicode's invisible format characters (category Cf) that reorder or hide the text around them, bidirectional
/// overrides among them: an address that reads otherwise than it routes is a trap for operators.
fn is_format(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Each byte of the UTF-8 form as `%XX`, as in a URL (RFC 3986, section 2.1).
fn percent(letter: char, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut buffer = [0; 4];
    for byte in letter.encode_utf8(&mut buffer).bytes() {
        out.push('%');
        for nibble in [byte >> 4, byte & 15] {
            out.push(HEX.get(usize::from(nibble)).copied().map_or('0', char::from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(escape: Escape, value: &str) -> String {
        let mut out = String::new();
        escape.token(value, &mut out);
        out
    }

    fn dotted(escape: Escape, value: &str) -> String {
        let mut out = String::new();
        escape.dotted(value, &mut out);
        out
    }

    #[test]
    fn what_means_something_to_a_broker_becomes_percent_and_hex() {
        for (value, expected) in [
            ("prod", "prod"),
            ("x 6\r\nPUB evil 0\r\n", "x%206%0D%0APUB%20evil%200%0D%0A"),
            ("*", "%2A"),
            (">", "%3E"),
            ("#", "%23"),
            ("a.b..", "a%2Eb%2E%2E"),
            ("a/b", "a%2Fb"),
            ("50%", "50%25"),
            ("\0\u{7f}\u{85}", "%00%7F%C2%85"),
            ("\u{202e}evil\u{2028}", "%E2%80%AEevil%E2%80%A8"),
            ("zoë-日本", "zoë-日本"),
        ] {
            for escape in [Escape::NatsSubject, Escape::AmqpRoutingKey, Escape::KafkaKey] {
                assert_eq!(token(escape, value), expected, "{value:?} in a {}", escape.name());
            }
        }
    }

    #[test]
    fn in_a_kafka_topic_everything_else_becomes_one_underscore() {
        for (value, expected) in
            [("a.b", "a_b"), ("x 6\r\nPUB", "x_6__PUB"), ("zoë", "zo_"), ("A-z_9", "A-z_9"), ("\u{202e}", "_")]
        {
            assert_eq!(token(Escape::KafkaTopic, value), expected);
        }
    }

    #[test]
    fn a_type_keeps_the_dots_that_separate_words() {
        assert_eq!(dotted(Escape::NatsSubject, "sandbox.lifecycle.killed"), "sandbox.lifecycle.killed");
        assert_eq!(dotted(Escape::KafkaTopic, "sandbox.lifecycle.killed"), "sandbox.lifecycle.killed");
        assert_eq!(dotted(Escape::NatsSubject, "a..b"), "a%2E.b");
        assert_eq!(dotted(Escape::NatsSubject, ".a."), "%2Ea%2E");
        assert_eq!(dotted(Escape::NatsSubject, "..."), "%2E%2E%2E");
        assert_eq!(dotted(Escape::KafkaTopic, "a..b"), "a_.b");
        assert_eq!(dotted(Escape::AmqpRoutingKey, "a.*.#"), "a.%2A.%23");
    }

    #[test]
    fn a_value_cannot_address_the_nats_server() {
        assert_eq!(token(Escape::NatsSubject, "$JS"), "%24JS");
        assert_eq!(token(Escape::NatsSubject, "a$b"), "a$b");
        assert_eq!(dotted(Escape::NatsSubject, "$SYS.REQ"), "%24SYS.REQ");
        assert_eq!(token(Escape::AmqpRoutingKey, "$JS"), "$JS");
    }
}
