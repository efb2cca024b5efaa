//! Names, values, times and advice, by rule and language.

use crate::alert::Alert;
use crate::routes::Language;
use peakdesk_model::alert::{Rule, Severity};
use peakdesk_model::time::{DAY_MS, UtcOffset, format_date};

/// How texts are made for a receiver.
#[derive(Debug, Clone)]
pub struct Words {
    /// Of the texts.
    pub language: Language,
    /// Of the times in them.
    pub offset: UtcOffset,
    /// Address of the console's pages, without a slash at its end.
    pub console_url: Option<String>,
}

impl Words {
    /// A moment (ms), with its date where `near` is on another day.
    pub fn time(&self, at: i64, near: i64) -> String {
        let seconds = self.offset.time_of_day_ms(at) / 1_000;
        let time = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
        if self.offset.day(at) == self.offset.day(near) {
            time
        } else {
            format!("{} {time}", format_date(self.offset.day(at)))
        }
    }

    /// A length of time (ms), by its two greatest units.
    pub fn span(&self, ms: i64) -> String {
        let seconds = ms.max(0) / 1_000;
        let (days, hours, minutes) = (ms.max(0) / DAY_MS, seconds / 3_600 % 24, seconds / 60 % 60);
        let parts = [days, hours, minutes, seconds % 60];
        let units = match self.language {
            Language::Chinese => ["天", "小时", "分", "秒"],
            Language::English => [" d", " h", " min", " s"],
        };
        let first = parts.iter().position(|n| *n > 0).unwrap_or(3);
        let shown = parts.iter().zip(units).skip(first).take(2).filter(|(n, _)| **n > 0);
        let texts: Vec<String> = shown.map(|(n, unit)| format!("{n}{unit}")).collect();
        match (texts.is_empty(), self.language) {
            (true, Language::Chinese) => "0秒".into(),
            (true, Language::English) => "0 s".into(),
            (false, Language::Chinese) => texts.concat(),
            (false, Language::English) => texts.join(" "),
        }
    }
}

/// The name of a severity.
pub fn severity_name(severity: Severity, language: Language) -> &'static str {
    match (severity, language) {
        (severity, Language::English) => severity.name(),
        (Severity::Warning, Language::Chinese) => "警告",
        (Severity::Major, Language::Chinese) => "重要",
        (Severity::Critical, Language::Chinese) => "严重",
    }
}

/// The name of a rule.
pub fn rule_name(rule: Rule, language: Language) -> &'static str {
    match language {
        Language::Chinese => match rule {
            Rule::BuyerWaiting => "买家等待过久",
            Rule::ConversionLow => "询单转化偏低",
            Rule::ManyWaiting => "多位买家同时等待",
            Rule::RefundPromiseAtRisk => "退款即将超时",
            Rule::RefundSpike => "退款激增",
            Rule::RepliesSlow => "回复变慢",
            Rule::ReplyRate3minLow => "3分钟回复率偏低",
            Rule::ReplyRate5minLow => "5分钟回复率偏低",
            Rule::ShopWaiting => "全店大量买家等待",
        },
        Language::English => match rule {
            Rule::BuyerWaiting => "A buyer waits too long",
            Rule::ConversionLow => "Inquiry conversion is low",
            Rule::ManyWaiting => "Many buyers wait at once",
            Rule::RefundPromiseAtRisk => "Refund promise at risk",
            Rule::RefundSpike => "Refunds spike",
            Rule::RepliesSlow => "Replies are slow",
            Rule::ReplyRate3minLow => "3-minute reply rate is low",
            Rule::ReplyRate5minLow => "5-minute reply rate is low",
            Rule::ShopWaiting => "Buyers wait all over the shop",
        },
    }
}

/// Alertmanager's name of a rule: `PeakdeskBuyerWaiting`.
pub fn alertname(rule: Rule) -> String {
    let mut name = String::from("Peakdesk");
    for word in rule.name().split('_') {
        let mut chars = word.chars();
        name.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        name.push_str(chars.as_str());
    }
    name
}

/// The value of an alert that fires, with what it is the value of.
pub fn value(alert: &Alert, words: &Words) -> String {
    let (num, den) = (alert.value_num, alert.value_den);
    let ratio = || format!("{} ({num}/{den})", percent(num, den));
    match words.language {
        Language::Chinese => match alert.rule {
            Rule::BuyerWaiting => format!("最长已等待 {}", words.span(num)),
            Rule::ManyWaiting => format!("{num} 位买家已等待 30 秒以上"),
            Rule::ShopWaiting => format!("全店 {num} 位买家已等待 3 分钟以上"),
            Rule::ReplyRate3minLow => format!("近 1 小时 3 分钟回复率 {}", ratio()),
            Rule::ReplyRate5minLow => format!("近 15 分钟 5 分钟回复率 {}", ratio()),
            Rule::RepliesSlow => format!("近 5 分钟平均回复 {}（{den} 次）", words.span(num / den.max(1))),
            Rule::ConversionLow => format!("今日询单转化 {}", ratio()),
            Rule::RefundSpike => format!("近 1 小时退款成功 {num} 笔，此前 24 小时 {den} 笔"),
            Rule::RefundPromiseAtRisk => format!("{num} 笔退款 4 小时内到期，{den} 笔已超时"),
        },
        Language::English => match alert.rule {
            Rule::BuyerWaiting => format!("longest wait {}", words.span(num)),
            Rule::ManyWaiting => format!("{num} buyers have waited 30 s or more"),
            Rule::ShopWaiting => format!("{num} buyers of the shop have waited 3 min or more"),
            Rule::ReplyRate3minLow => format!("replied within 3 min in the last hour: {}", ratio()),
            Rule::ReplyRate5minLow => format!("replied within 5 min in the last 15 min: {}", ratio()),
            Rule::RepliesSlow => format!("average reply in the last 5 min {} ({den} replies)", words.span(num / den.max(1))),
            Rule::ConversionLow => format!("inquiry conversion today {}", ratio()),
            Rule::RefundSpike => format!("{num} refunds in the last hour, {den} in the 24 h before"),
            Rule::RefundPromiseAtRisk => format!("{num} refunds due within 4 h, {den} overdue"),
        },
    }
}

/// A ratio in percent with one digit, rounded down; of nothing a dash.
fn percent(num: i64, den: i64) -> String {
    if den <= 0 {
        return "–".into();
    }
    let mille = i128::from(num) * 1_000 / i128::from(den);
    format!("{}.{}%", mille / 10, mille % 10)
}

/// What to do.
pub fn advice(rule: Rule, language: Language) -> &'static str {
    match language {
        Language::Chinese => match rule {
            Rule::BuyerWaiting => "请立即回复等待最久的买家；忙不过来时转给空闲客服。",
            Rule::ConversionLow => "查看未下单的询单，跟进催付；检查话术、库存和活动价。",
            Rule::ManyWaiting => "把部分会话转给空闲客服，或临时降低该客服的接待上限。",
            Rule::RefundPromiseAtRisk => "优先处理即将到期和已超时的退款申请。",
            Rule::RefundSpike => "查看退款原因是否集中在某个商品或物流，必要时下架或公告。",
            Rule::RepliesSlow => "确认客服是否在岗、会话是否过多，必要时分流。",
            Rule::ReplyRate3minLow => "减少该客服的新会话，先清理未回复的买家。",
            Rule::ReplyRate5minLow => "增派客服或打开机器人接待，先回复已等待的买家。",
            Rule::ShopWaiting => "全员上线支援，打开机器人和自动回复，优先回复等待最久的买家。",
        },
        Language::English => match rule {
            Rule::BuyerWaiting => "answer the buyer who waits longest now; hand over to a free agent if there is too much",
            Rule::ConversionLow => "follow up inquiries without an order; check scripts, stock and the promotion's price",
            Rule::ManyWaiting => "hand some chats to free agents, or lower this agent's limit for a while",
            Rule::RefundPromiseAtRisk => "handle the requests that are due or overdue first",
            Rule::RefundSpike => "see whether the reasons point to one product or carrier; stop selling it or tell buyers if need be",
            Rule::RepliesSlow => "see whether the agent is there and has too many chats; move some away",
            Rule::ReplyRate3minLow => "give this agent fewer new chats, and clear those without a reply first",
            Rule::ReplyRate5minLow => "bring in agents or switch on the robot; answer those who already wait first",
            Rule::ShopWaiting => "everybody to the chats, robot and automatic replies on; the longest waits first",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rules_in_alertmanager() {
        assert_eq!(alertname(Rule::BuyerWaiting), "PeakdeskBuyerWaiting");
        assert_eq!(alertname(Rule::ReplyRate3minLow), "PeakdeskReplyRate3minLow");
    }

    #[test]
    fn lengths_of_time_have_two_units() {
        let words = |language| Words {
            language,
            offset: UtcOffset::CHINA,
            console_url: None,
        };
        let (zh, en) = (words(Language::Chinese), words(Language::English));
        for (ms, chinese, english) in [
            (0, "0秒", "0 s"),
            (59_999, "59秒", "59 s"),
            (320_000, "5分20秒", "5 min 20 s"),
            (300_000, "5分", "5 min"),
            (3_605_000, "1小时", "1 h"),
            (90_061_000, "1天1小时", "1 d 1 h"),
            (-5, "0秒", "0 s"),
        ] {
            assert_eq!((zh.span(ms).as_str(), en.span(ms).as_str()), (chinese, english), "{ms}");
        }
    }

    #[test]
    fn times_have_a_date_on_another_day() {
        let words = Words {
            language: Language::English,
            offset: UtcOffset::CHINA,
            console_url: None,
        };
        assert_eq!(words.time(1_762_790_400_000, 1_762_790_400_001), "00:00:00");
        assert_eq!(words.time(1_762_790_399_000, 1_762_790_400_001), "2025-11-10 23:59:59");
    }

    #[test]
    fn ratios() {
        assert_eq!(percent(3, 40), "7.5%");
        assert_eq!(percent(0, 0), "–");
        assert_eq!(percent(i64::MAX, 1), "922337203685477580700.0%");
    }
}
