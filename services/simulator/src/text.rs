//! What buyers, robots and agents say: short Chinese phrases, strung together to a log-normal length.

use crate::dist::{SimRng, log_normal, pick};

const ASKS_BEFORE: [&str; 18] = [
    "在吗",
    "这个有货吗",
    "什么时候发货",
    "双十一还有优惠吗",
    "满减怎么算",
    "能用红包吗",
    "我身高170体重65穿什么码",
    "尺码偏大还是偏小",
    "会不会掉色",
    "有没有黑色的",
    "定金可以退吗",
    "尾款几点付",
    "包邮吗",
    "支持七天无理由吗",
    "送运费险吗",
    "和上一款有什么区别",
    "可以开发票吗",
    "保价到什么时候",
];

const ASKS_AFTER: [&str; 12] = [
    "我的快递到哪了",
    "怎么还没发货",
    "地址写错了能改吗",
    "收到的和图片不一样",
    "尺码不合适想换一个",
    "退款什么时候到账",
    "少发了一件",
    "包装破了",
    "怎么申请退货",
    "运费谁出",
    "可以补差价吗",
    "质量有问题",
];

const ANSWERS: [&str; 12] = [
    "亲，您好",
    "有货的呢，现在拍下48小时内发出",
    "这款是偏大一码的，建议您拍小一码哦",
    "满300减50，可以跨店使用的",
    "支持七天无理由退换，赠送运费险",
    "我帮您查一下，请稍等",
    "已经帮您备注好了",
    "颜色是正的，正常洗涤不会掉色",
    "活动价保到11月15日，放心拍",
    "您把订单号发我看一下",
    "给您带来不便非常抱歉",
    "还有其他可以帮您的吗",
];

const ROBOT: [&str; 5] = [
    "亲，您的问题小助手已经收到",
    "活动期间订单按付款顺序48小时内发出",
    "优惠券可在首页领取，结算时自动抵扣",
    "尺码表请见商品详情页第三张图",
    "如需人工客服请回复“人工”",
];

const WELCOME: &str = "亲，欢迎光临，双十一全场满300减50，有什么可以帮您？";
const SPAM: [&str; 3] = ["专业补单，低价快速，加微信详聊", "同行交流，互相收藏", "内部测试消息，请忽略"];

/// Who speaks, about what.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Voice {
    BuyerBefore,
    BuyerAfter,
    Agent,
    Robot,
    Welcome,
    Spam,
}

/// One message: 30 characters in the mean for people, with a long tail.
pub(crate) fn say(rng: &mut SimRng, voice: Voice) -> String {
    let phrases: &[&str] = match voice {
        Voice::BuyerBefore => &ASKS_BEFORE,
        Voice::BuyerAfter => &ASKS_AFTER,
        Voice::Agent => &ANSWERS,
        Voice::Robot => &ROBOT,
        Voice::Spam => &SPAM,
        Voice::Welcome => return WELCOME.to_owned(),
    };
    // Three bytes per character; phrases overshoot the target by half a phrase.
    let target_bytes = (log_normal(rng, 16.0, 0.8) * 3.0).min(2_000.0) as usize;
    let mut text = String::with_capacity(target_bytes + 48);
    while let Some(phrase) = pick(rng, phrases) {
        text.push_str(phrase);
        if text.len() >= target_bytes {
            break;
        }
        text.push('，');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn buyers_write_about_thirty_characters() {
        let mut rng = SimRng::seed_from_u64(1);
        let n = 5_000;
        let sum: usize = (0..n).map(|_| say(&mut rng, Voice::BuyerBefore).chars().count()).sum();
        let mean = sum as f64 / f64::from(n);
        assert!((22.0..34.0).contains(&mean), "{mean}");
    }
}
