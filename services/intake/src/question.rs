//! What a buyer's message is about, by a small table of Chinese and English keywords.
//!
//! The category is all that leaves intake of a chat text. It is a hint for people, not a figure: no published metric depends
//! on it, and a message that fits nothing is [`Question::Other`].

/// The category of a buyer's message, in order of precedence: a message that names several is about the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Question {
    /// Returns, refunds, complaints, defects.
    AfterSale = 0,
    /// Delivery and logistics.
    Shipping = 1,
    /// Paying, invoices.
    Payment = 2,
    /// Size and fit.
    Size = 3,
    /// Availability.
    Stock = 4,
    /// Price, discounts and promotions.
    Price = 5,
    /// None of these.
    Other = 6,
}

/// Characters looked at; the question of a long message is at its beginning.
const CHARS_MAX: usize = 1000;

/// Sorted by keyword, so that those of one first letter lie together. Lower case. An English keyword begins a word ("ship"
/// finds "shipping", not "worship"); a Chinese one may stand anywhere.
const KEYWORDS: &[(&str, Question)] = &[
    ("afford", Question::Price),
    ("alipay", Question::Payment),
    ("arrive", Question::Shipping),
    ("available", Question::Stock),
    ("broken", Question::AfterSale),
    ("cheap", Question::Price),
    ("complain", Question::AfterSale),
    ("coupon", Question::Price),
    ("courier", Question::Shipping),
    ("damaged", Question::AfterSale),
    ("defect", Question::AfterSale),
    ("deliver", Question::Shipping),
    ("discount", Question::Price),
    ("exchange", Question::AfterSale),
    ("fit", Question::Size),
    ("how much", Question::Price),
    ("in stock", Question::Stock),
    ("installment", Question::Payment),
    ("invoice", Question::Payment),
    ("logistics", Question::Shipping),
    ("measure", Question::Size),
    ("out of stock", Question::Stock),
    ("package", Question::Shipping),
    ("parcel", Question::Shipping),
    ("pay", Question::Payment),
    ("price", Question::Price),
    ("promotion", Question::Price),
    ("refund", Question::AfterSale),
    ("restock", Question::Stock),
    ("return", Question::AfterSale),
    ("ship", Question::Shipping),
    ("size", Question::Size),
    ("sold out", Question::Stock),
    ("stock", Question::Stock),
    ("too big", Question::Size),
    ("too small", Question::Size),
    ("tracking", Question::Shipping),
    ("warranty", Question::AfterSale),
    ("wechat pay", Question::Payment),
    ("xxl", Question::Size),
    ("付尾款", Question::Payment),
    ("付款", Question::Payment),
    ("价格", Question::Price),
    ("优惠", Question::Price),
    ("便宜", Question::Price),
    ("偏大", Question::Size),
    ("偏小", Question::Size),
    ("几天到", Question::Shipping),
    ("到货", Question::Stock),
    ("包裹", Question::Shipping),
    ("包邮", Question::Shipping),
    ("发票", Question::Payment),
    ("发货", Question::Shipping),
    ("售后", Question::AfterSale),
    ("坏了", Question::AfterSale),
    ("多大", Question::Size),
    ("多少钱", Question::Price),
    ("定金", Question::Payment),
    ("尺寸", Question::Size),
    ("尺码", Question::Size),
    ("库存", Question::Stock),
    ("快递", Question::Shipping),
    ("打折", Question::Price),
    ("投诉", Question::AfterSale),
    ("折扣", Question::Price),
    ("换货", Question::AfterSale),
    ("支付", Question::Payment),
    ("有现货", Question::Stock),
    ("有货", Question::Stock),
    ("没货", Question::Stock),
    ("活动", Question::Price),
    ("满减", Question::Price),
    ("物流", Question::Shipping),
    ("现货", Question::Stock),
    ("码数", Question::Size),
    ("破损", Question::AfterSale),
    ("缺货", Question::Stock),
    ("花呗", Question::Payment),
    ("补货", Question::Stock),
    ("质量问题", Question::AfterSale),
    ("赔偿", Question::AfterSale),
    ("身高", Question::Size),
    ("运费", Question::Shipping),
    ("退款", Question::AfterSale),
    ("退货", Question::AfterSale),
    ("邮费", Question::Shipping),
];

impl Question {
    /// All categories, in order of precedence.
    pub const ALL: [Question; 7] = [
        Question::AfterSale,
        Question::Shipping,
        Question::Payment,
        Question::Size,
        Question::Stock,
        Question::Price,
        Question::Other,
    ];

    /// The category with this code (as in frames), if there is one.
    pub fn from_code(code: u8) -> Option<Question> {
        Question::ALL.into_iter().find(|question| *question as u8 == code)
    }

    /// A name for labels and pages.
    pub fn name(self) -> &'static str {
        match self {
            Question::AfterSale => "after_sale",
            Question::Shipping => "shipping",
            Question::Payment => "payment",
            Question::Size => "size",
            Question::Stock => "stock",
            Question::Price => "price",
            Question::Other => "other",
        }
    }

    /// What `text` is about. Allocates nothing.
    pub fn of(text: &str) -> Question {
        let bytes = text.as_bytes();
        let mut best = Question::Other;
        let (mut at, mut before_is_word) = (0, false);
        for _ in 0..CHARS_MAX {
            let Some(&first) = bytes.get(at) else { break };
            let (is_word, len) = (first.is_ascii_alphanumeric(), char_len(first));
            if !(is_word && before_is_word)
                && let Some((begin, end)) = BY_FIRST_BYTE.get(usize::from(first.to_ascii_lowercase()))
                && let (Some(keywords), Some(rest)) = (KEYWORDS.get(usize::from(*begin)..usize::from(*end)), bytes.get(at..))
            {
                for (keyword, question) in keywords {
                    if *question < best && begins_with(rest, keyword.as_bytes()) {
                        best = *question;
                    }
                }
            }
            before_is_word = is_word;
            at += len;
        }
        best
    }
}

/// Bytes of the character that begins with `first`, in UTF-8.
fn char_len(first: u8) -> usize {
    match first {
        0..0xC0 => 1,
        0xC0..0xE0 => 2,
        0xE0..0xF0 => 3,
        _ => 4,
    }
}

fn begins_with(text: &[u8], keyword: &[u8]) -> bool {
    text.get(..keyword.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(keyword))
}

/// Which keywords begin with a byte: from, to.
const BY_FIRST_BYTE: [(u8, u8); 256] = by_first_byte();

const fn by_first_byte() -> [(u8, u8); 256] {
    let mut table = [(0, 0); 256];
    let mut i = 0;
    while i < KEYWORDS.len() {
        let first = KEYWORDS[i].0.as_bytes()[0] as usize;
        if table[first].1 == 0 {
            table[first].0 = i as u8;
        }
        table[first].1 = i as u8 + 1;
        i += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_is_sorted_and_lower_case() {
        assert!(KEYWORDS.is_sorted_by(|a, b| a.0 < b.0));
        for (keyword, question) in KEYWORDS {
            assert_eq!(*keyword, keyword.to_lowercase());
            assert_ne!(*question, Question::Other);
            assert!(Question::of(keyword) <= *question, "{keyword}");
        }
    }

    #[test]
    fn messages_fall_into_their_category() {
        for (text, expected) in [
            ("在吗？", Question::Other),
            ("", Question::Other),
            ("这件多少钱？", Question::Price),
            ("Any DISCOUNT today?", Question::Price),
            ("还有现货吗", Question::Stock),
            ("is it in stock", Question::Stock),
            ("身高170穿什么", Question::Size),
            ("what Size should I take", Question::Size),
            ("什么时候发货", Question::Shipping),
            ("has it shipped yet", Question::Shipping),
            ("怎么付款", Question::Payment),
            ("can I pay by card", Question::Payment),
            ("我要退款", Question::AfterSale),
            ("I want a refund", Question::AfterSale),
        ] {
            assert_eq!(Question::of(text), expected, "{text}");
        }
    }

    #[test]
    fn the_first_of_several_by_precedence_counts() {
        assert_eq!(Question::of("价格便宜，但是坏了，快递也慢"), Question::AfterSale);
        assert_eq!(Question::of("price and shipping?"), Question::Shipping);
    }

    #[test]
    fn english_keywords_begin_a_word() {
        for text in ["worship", "outfit", "oversize", "2pay"] {
            assert_eq!(Question::of(text), Question::Other, "{text}");
        }
        assert_eq!(Question::of("请问pay怎么用"), Question::Payment);
    }

    #[test]
    fn codes_are_places_in_the_list() {
        for (code, question) in Question::ALL.into_iter().enumerate() {
            assert_eq!(Question::from_code(u8::try_from(code).unwrap()), Some(question));
        }
        assert_eq!(Question::from_code(7), None);
    }

    proptest! {
        #[test]
        fn the_category_is_that_of_a_plain_search(words in prop::collection::vec(prop_oneof![
            any::<char>().prop_map(String::from),
            Just(" ".to_owned()),
            (0..KEYWORDS.len()).prop_map(|i| KEYWORDS[i].0.to_owned()),
            (0..KEYWORDS.len()).prop_map(|i| KEYWORDS[i].0.to_uppercase()),
        ], 0..12)) {
            let text = words.concat();
            let begins_word = |at: usize| {
                let before = text[..at].chars().next_back();
                !(before.is_some_and(|c| c.is_ascii_alphanumeric()) && text[at..].starts_with(|c: char| c.is_ascii_alphanumeric()))
            };
            let found = KEYWORDS.iter().filter(|(keyword, _)| {
                let mut places = text.char_indices().map(|(at, _)| at);
                places.any(|at| begins_word(at) && text[at..].get(..keyword.len()).is_some_and(|t| t.eq_ignore_ascii_case(keyword)))
            });
            let expected = found.map(|(_, question)| *question).min().unwrap_or(Question::Other);
            prop_assert_eq!(Question::of(&text), expected);
        }
    }
}
