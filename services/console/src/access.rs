//! What a user may see and do: pure decisions, asked by everything that answers.
//!
//! | role | sees | may acknowledge |
//! | --- | --- | --- |
//! | agent | its own figures, day and alerts | no |
//! | viewer | all of its shops | no |
//! | supervisor | all of its shops | there |
//! | admin | all of its shops | there |
//!
//! A user has grants, each a role with its shops; what any of them allows is allowed. An admin's shops are usually all.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Roles, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Role {
    Agent,
    Viewer,
    Supervisor,
    Admin,
}

/// The shops a grant is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shops {
    /// Every shop.
    All,
    /// These.
    Named(BTreeSet<String>),
}

impl Shops {
    fn holds(&self, shop: &str) -> bool {
        match self {
            Shops::All => true,
            Shops::Named(names) => names.contains(shop),
        }
    }
}

/// A role in some shops; of an agent, for itself only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// A viewer, supervisor or admin of shops.
    Staff {
        /// Not [`Role::Agent`].
        role: Role,
        /// Where.
        shops: Shops,
    },
    /// An agent.
    Agent {
        /// Its shop.
        shop: String,
        /// Its id there.
        agent: String,
    },
}

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As it is written beside what the user does.
    pub name: String,
    /// Everything that is granted; without any, nothing is seen.
    pub grants: Vec<Grant>,
}

impl User {
    /// Who may do everything everywhere.
    pub fn admin(name: &str) -> Self {
        let all = Grant::Staff {
            role: Role::Admin,
            shops: Shops::All,
        };
        User {
            name: name.to_owned(),
            grants: vec![all],
        }
    }

    fn staff(&self) -> impl Iterator<Item = (Role, &Shops)> {
        self.grants.iter().filter_map(|grant| match grant {
            Grant::Staff { role, shops } => Some((*role, shops)),
            Grant::Agent { .. } => None,
        })
    }

    /// The greatest role of the user anywhere; `None` without grants.
    pub fn role(&self) -> Option<Role> {
        let staff = self.staff().map(|(role, _)| role).max();
        staff.or_else(|| self.agent().map(|_| Role::Agent))
    }

    /// Whether a shop as a whole is seen.
    pub fn sees_shop(&self, shop: &str) -> bool {
        self.staff().any(|(_, shops)| shops.holds(shop))
    }

    /// Whether every shop is seen.
    pub fn sees_all(&self) -> bool {
        self.staff().any(|(_, shops)| *shops == Shops::All)
    }

    /// Whether an agent is seen.
    pub fn sees_agent(&self, shop: &str, agent: &str) -> bool {
        self.sees_shop(shop) || self.agents().any(|own| own == (shop, agent))
    }

    /// Whether something is seen that is about an agent, or (`None`) about a shop as a whole.
    pub fn sees(&self, shop: &str, agent: Option<&str>) -> bool {
        match agent {
            Some(agent) => self.sees_agent(shop, agent),
            None => self.sees_shop(shop),
        }
    }

    /// Whether alerts of a shop may be taken on.
    pub fn may_acknowledge(&self, shop: &str) -> bool {
        self.staff().any(|(role, shops)| role >= Role::Supervisor && shops.holds(shop))
    }

    /// Shop and id of the agent that the user is, if it is one.
    pub fn agent(&self) -> Option<(&str, &str)> {
        self.agents().next()
    }

    fn agents(&self) -> impl Iterator<Item = (&str, &str)> {
        self.grants.iter().filter_map(|grant| match grant {
            Grant::Agent { shop, agent } => Some((shop.as_str(), agent.as_str())),
            Grant::Staff { .. } => None,
        })
    }

    /// The shops by name, or `*`.
    pub fn shops(&self) -> Vec<&str> {
        if self.sees_all() {
            return vec!["*"];
        }
        let mut names = BTreeSet::new();
        for grant in &self.grants {
            match grant {
                Grant::Staff {
                    shops: Shops::Named(shops),
                    ..
                } => names.extend(shops.iter().map(String::as_str)),
                Grant::Staff { .. } => {}
                Grant::Agent { shop, .. } => drop(names.insert(shop.as_str())),
            }
        }
        names.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(shops: &[&str]) -> Shops {
        Shops::Named(shops.iter().map(|s| (*s).to_owned()).collect())
    }

    fn staff(role: Role, shops: Shops) -> User {
        User {
            name: "u".into(),
            grants: vec![Grant::Staff { role, shops }],
        }
    }

    fn agent() -> Grant {
        Grant::Agent {
            shop: "s1".into(),
            agent: "a".into(),
        }
    }

    #[test]
    fn every_role_sees_its_own_and_nothing_else() {
        for (user, sees, acknowledges) in [
            (staff(Role::Viewer, named(&["s1"])), true, false),
            (staff(Role::Supervisor, named(&["s1"])), true, true),
            (staff(Role::Admin, named(&["s1"])), true, true),
        ] {
            assert_eq!(user.sees_shop("s1"), sees);
            assert!(user.sees_agent("s1", "a") && user.sees("s1", None));
            assert_eq!(user.may_acknowledge("s1"), acknowledges);
            assert!(!user.sees_shop("s2") && !user.sees_agent("s2", "a") && !user.may_acknowledge("s2"));
            assert_eq!(user.shops(), ["s1"]);
        }
        let all = User::admin("root");
        assert!(all.sees_all() && all.sees_shop("any") && all.may_acknowledge("any"));
        assert_eq!(all.shops(), ["*"]);
        let own = User {
            name: "a".into(),
            grants: vec![agent()],
        };
        assert!(own.sees_agent("s1", "a") && own.sees("s1", Some("a")));
        assert!(!own.sees_agent("s1", "b") && !own.sees_agent("s2", "a") && !own.sees_shop("s1") && !own.may_acknowledge("s1"));
        assert_eq!((own.role(), own.shops()), (Some(Role::Agent), vec!["s1"]));
        let nobody = User {
            name: "n".into(),
            grants: vec![],
        };
        assert_eq!((nobody.role(), nobody.shops()), (None, vec![]));
        assert!(!nobody.sees_shop("s1"));
    }

    #[test]
    fn a_role_in_one_shop_is_none_in_another() {
        let mut user = staff(Role::Supervisor, named(&["s1"]));
        user.grants.push(Grant::Staff {
            role: Role::Viewer,
            shops: named(&["s2"]),
        });
        user.grants.push(agent());
        assert!(user.may_acknowledge("s1") && user.sees_shop("s2") && !user.may_acknowledge("s2"));
        assert_eq!((user.role(), user.shops()), (Some(Role::Supervisor), vec!["s1", "s2"]));
    }
}
