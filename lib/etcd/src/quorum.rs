//! The arithmetic of quorum: a majority of the voting members. Learners do not
//! vote (<https://etcd.io/docs/v3.6/faq/>, "What is failure tolerance?").

/// How many of `voters` voting members must be up for the cluster to serve.
pub const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// How many of `voters` voting members may be down while the cluster still serves.
pub const fn tolerates(voters: usize) -> usize {
    voters - if voters == 0 { 0 } else { quorum(voters) }
}

/// Why an even number of voting members gains nothing, on one line; nothing for
/// an odd number.
pub fn even(voters: usize) -> Option<String> {
    let down = tolerates(voters);
    let failures = if down == 1 { "failure" } else { "failures" };
    (voters > 0 && voters.is_multiple_of(2)).then(|| {
        format!(
            "{voters} members tolerate {down} {failures}, the same as {}: use an odd number",
            voters - 1
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_needed_and_the_rest_may_fail() {
        for (voters, needed, spare) in
            [(1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 3, 1), (5, 3, 2), (6, 4, 2), (7, 4, 3)]
        {
            assert_eq!((quorum(voters), tolerates(voters)), (needed, spare), "{voters}");
        }
        // An empty list of members never has quorum, and tolerates nothing.
        assert_eq!((quorum(0), tolerates(0)), (1, 0));
    }

    #[test]
    fn an_even_number_is_commented_on() {
        assert_eq!(
            even(2).unwrap(),
            "2 members tolerate 0 failures, the same as 1: use an odd number"
        );
        assert_eq!(
            even(4).unwrap(),
            "4 members tolerate 1 failure, the same as 3: use an odd number"
        );
        assert_eq!(
            even(6).unwrap(),
            "6 members tolerate 2 failures, the same as 5: use an odd number"
        );
        for odd in [0, 1, 3, 5] {
            assert_eq!(even(odd), None);
        }
    }
}
