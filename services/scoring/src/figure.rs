//! Names for the indices of a window's figures; the order is that of the published columns.

use peakdesk_model::table::{FIGURES, Grain};

/// Index of a figure in a window.
pub type Fig = usize;

macro_rules! figures {
    ($($name:ident = $index:literal $text:literal),+ $(,)?) => {
        $(#[doc = $text] pub const $name: Fig = $index;)+

        #[cfg(test)]
        pub(crate) const NAMED: &[(Fig, &str)] = &[$(($index, $text)),+];
    };
}

figures! {
    ROUNDS = 0 "rounds",
    REPLIED = 1 "replied",
    TRANSFERRED = 2 "transferred",
    UNANSWERED = 3 "unanswered",
    WITHIN_30S = 4 "replied_within_30s",
    WITHIN_60S = 5 "replied_within_60s",
    WITHIN_180S = 6 "replied_within_180s",
    WITHIN_300S = 7 "replied_within_300s",
    LATENCY_SUM = 8 "latency_sum_ms",
    LATENCY_CAPPED_SUM = 9 "latency_capped_sum_ms",
    FIRST_ROUNDS = 10 "first_rounds",
    FIRST_REPLIED = 11 "first_replied",
    FIRST_LATENCY_SUM = 12 "first_latency_sum_ms",
    ASSESSED_ROUNDS = 13 "assessed_rounds",
    ASSESSED_WITHIN_180S = 14 "assessed_replied_within_180s",
    ASSESSED_WITHIN_300S = 15 "assessed_replied_within_300s",
    LATENCY_MAX = 16 "latency_max_ms",
    LATENCY_P50 = 17 "latency_p50_ms",
    LATENCY_P90 = 18 "latency_p90_ms",
    LATENCY_P95 = 19 "latency_p95_ms",
    LATENCY_P99 = 20 "latency_p99_ms",
    BUYER_MESSAGES = 21 "buyer_messages",
    AGENT_MESSAGES = 22 "agent_messages",
    ASSISTED_MESSAGES = 23 "assisted_messages",
    ROBOT_MESSAGES = 24 "robot_messages",
    SPAM_MESSAGES = 25 "spam_messages",
    CONSULTING_BUYERS = 26 "consulting_buyers",
    RECEIVED_BUYERS = 27 "received_buyers",
    INQUIRY_BUYERS = 28 "inquiry_buyers",
    AFTER_SALE_BUYERS = 29 "after_sale_buyers",
    ORDERED_1D = 30 "ordered_1d",
    PAID_1D = 33 "paid_1d",
    DEPOSIT_1D = 36 "deposit_1d",
    NET_PAID_3D = 39 "net_paid_3d",
    ORDERS_PAID = 40 "orders_paid",
    ITEMS_PAID = 41 "items_paid",
    GROSS_FEN = 42 "gross_fen",
    SILENT_ORDERS = 43 "silent_orders",
    SILENT_FEN = 44 "silent_fen",
    ROBOT_ONLY_ORDERS = 45 "robot_only_orders",
    ORDERS_CREATED = 46 "orders_created",
    DEPOSITS_PAID = 47 "deposits_paid",
    DEPOSIT_FEN = 48 "deposit_fen",
    REFUNDS = 49 "refunds",
    REFUND_FEN = 50 "refund_fen",
    PAYING_BUYERS = 51 "paying_buyers",
    REFUNDED_OF_COHORT_FEN = 52 "refunded_of_cohort_fen",
    NET_FEN = 53 "net_fen",
    REFUND_REQUESTS = 54 "refund_requests",
    REFUNDS_WITHIN_PROMISE = 55 "refunds_within_promise",
    REFUND_PROMISE_DECIDED = 56 "refund_promise_decided",
    REFUND_REQUESTS_ENDED = 57 "refund_requests_ended",
    RATINGS_1 = 58 "ratings_1",
}

/// How many of the figures, from the first, are defined at a grain.
pub const fn defined_at(grain: Grain) -> usize {
    match grain {
        Grain::Minute => CONSULTING_BUYERS,
        Grain::Hour => PAYING_BUYERS,
        Grain::Day => FIGURES.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_agree_with_the_published_columns() {
        for (index, name) in NAMED {
            assert_eq!(FIGURES[*index].0, *name);
        }
    }
}
