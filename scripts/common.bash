# shellcheck shell=bash
# What the scripts share: they source it. Each has its own usage().

PATH=$PATH:$(dirname "$(realpath "$0")")/../target/release
script=$(basename "$0")
yes='' # not empty: nobody is asked
skipped=() # the checks that etcd-preflight leaves out, as its options

say() { printf '%s: %s\n' "$script" "$*" >&2; }
die() { say "${@:2}"; exit "$1"; } # exit code, message
misused() { usage >&2; exit 2; }
unknown_option() { die 2 "$1: no such option: see $script --help"; }

# installed TOOL: ends the script where it is not.
installed() { command -v "$1" >/dev/null || die 2 "$1: not on the PATH: run scripts/install"; }

# has_jq: ends the script without it.
has_jq() { command -v jq >/dev/null || die 2 "jq: not on the PATH: install it"; }

# can_ask OPTIONS: ends the script without a terminal, naming the OPTIONS that answer for
# it. Answers are not read from stdin, which may be the list of nodes.
can_ask() {
  { [[ -t 2 ]] && { exec 3</dev/tty; } 2>/dev/null; } ||
    die 2 "not on a terminal, nobody to ask: pass $1"
}

# agreed QUESTION: whether the answer is y; asks again until it is y or n.
agreed() {
  local answer=''
  [[ ! $yes ]] || return 0
  until [[ $answer == [yn] ]]; do
    printf '%s: %s? [y/n] ' "$script" "$1" >&2
    read -ru 3 answer || answer=n
  done
  [[ $answer == y ]]
}

# typed WORDS: whether they were typed, for what cannot be taken back.
typed() {
  local answer=''
  printf '%s: type "%s" to go on: ' "$script" "$1" >&2
  read -ru 3 answer || true
  [[ $answer == "$1" ]]
}

# What a script takes from the environment: where things are, how they are made, and how hosts
# are reached. What is done, and to whom, the script says.
environment=' CACERT CACHE CA_CERT CA_KEY CA_VALIDITY CERT FETCH_OFFLINE FETCH_TIMEOUT FILE
  HEALTH_TIMEOUT JOBS KEY LOCK_TIMEOUT MAINTAIN_TIMEOUT MEMBER_TIMEOUT MIRROR NO_DEFAULT PKI QUIET
  RENEW_BEFORE SAN SHA256 SNAPSHOT_TIMEOUT SSH_CONFIG SSH_PORT SSH_USER STRICT TEMPLATES
  UNIT_TIMEOUT VALIDITY VERBOSE VERIFY VIA '

# whole_cluster: for a script that asks and changes all members of its list. What is set for
# other uses of the tools would have them ask others, or do something else.
whole_cluster() {
  local name
  for name in "${!ETCD_TOOLS_@}" ETCDCTL_ENDPOINTS; do
    case $name in
      ETCD_TOOLS_ONLY | ETCD_TOOLS_CHECK)
        [[ ! ${!name} ]] || die 2 "$name is set, and this concerns all members: unset it" ;;
    esac
    [[ ${environment//$'\n'/ } == *" ${name#ETCD_TOOLS_} "* ]] || unset "$name"
  done
}

# read_nodes FILE: prints it, "-" being stdin.
read_nodes() {
  local text
  text=$(cat -- "$1") || die 66 "$1: cannot be read"
  [[ $text == *[![:space:]]* ]] || die 66 "$1: no node in it"
  printf '%s\n' "$text"
}

# look: sets $health to what etcd-health says of $list; ends the script where that is no list.
look() {
  health=$(etcd-health -q -o json <<<"${list:?}" 2>/dev/null) || true
  [[ $health ]] || etcd-health -q -o json <<<"$list" >/dev/null || exit
}

# complete NAME...: ends the script where $health tells of a member that is not in $list, but for
# those that leave.
# What changes the cluster with such a list would be followed by what is refused. So it does where
# one answers, and who the members are is not known.
complete() {
  local missing unknown
  unknown=$(jq -r 'select(.health.members | length == 0) | first(
    (.health.endpoints[]? | select((.error // "") | startswith("TLS: ")) | "\(.node): \(.error)"),
    (.results[]? | select(.code == "no-member-list").message))' <<<"$health")
  [[ ! $unknown ]] || die 3 "nothing is done: who the members are is not known: $unknown"
  missing=$(jq -r '.results[]? | select(.code == "unknown-member").message
    | select(split(" ")[1] | IN($ARGS.positional[]) | not)' --args "$@" <<<"$health")
  [[ ! $missing ]] || die 3 "nothing is done: ${missing%%$'\n'*}: add it to the list"
}

# known WORD: sets $node to the node of $list that WORD names, by its name, hostname or address, or
# as the member that is there, and $member to the name of that member, or to its ID where it has
# none yet; each empty where there is none. $seen is what etcd-member list says of $list.
known() {
  local found
  found=$(jq -r --arg word "$1" "$at_node"'
    def is_url: (.address // "") as $address
      | $word | startswith("https://\($address):", "https://[\($address)]:");
    ([(.nodes[] | select(.name == $word)), (.nodes[] | select(.hostname == $word)),
      (.nodes[] | select(.address == $word)), (.nodes[] | select(is_url))]) as $nodes
    | [.health.members[] | select([.name // "", .id, .peerUrls[]] | index($word))] as $named
    | if ($named | length) > 1 then "several\t" + ([$named[].id] | join(", ")) else
        ($named[0] // first(.health.members[] | select((.name // "") == $nodes[0].name))
          // first(.health.members[] | select((.name // "") == "" and at($nodes[0]))) // null) as $member
        | (first(.nodes[] | select(.name == ($member.name // "")))
          // first(.nodes[] | select(. as $node | $member != null and ($member | at($node))))
          // $nodes[0]) as $node
        | "\($node.name // "")\t\($member | if . == null then "" elif (.name // "") == "" then .id
          else .name end)" end' <<<"${seen:?}")
  [[ $found != several* ]] ||
    die 2 "$1: this is more than one member: pass one of their peer URLs: ${found#*$'\t'}"
  # shellcheck disable=SC2034 # for who calls it
  node=${found%%$'\t'*} member=${found#*$'\t'}
}

# In jq: whether the member that is put in is at the address of that node.
# shellcheck disable=SC2016
at_node='def at($node): ($node.address // "") as $address
  | any(.peerUrls[]; contains("://\($address):") or contains("://[\($address)]:"));'

# members_only NAME...: ends the script where a node of $list is no member, but for those names.
# What follows the change would refuse it. $seen is what etcd-member list says of $list.
members_only() {
  local strange
  strange=$(jq -r "$at_node"'.health.members as $members
    | first(.nodes[] | select(.name | IN($members[].name, $ARGS.positional[]) | not) | . as $node
      | first($members[] | select(at($node))) // null | if . == null then
          "\($node.name) is in the list, and no member: take its line out, or have it added: scripts/grow"
        elif (.name // "") == "" then
          "\($node.name) is about to join, and has not started yet: first scripts/grow, or take it out: scripts/shrink NODES \($node.name)"
        else
          "the cluster knows \(.peerUrls | join(",")) as member \(.name), the list calls it \($node.name): change the list back"
        end)' --args "$@" <<<"${seen:?}")
  [[ ! $strange ]] || die 3 "nothing is done: $strange"
}

# The versions in $health, as "v3.5.33, v3.6.16".
running_versions() {
  jq -r '[.health.endpoints[].version // empty | "v" + .] | unique | join(", ")' <<<"$health" || true
}

# one_release: ends the script where $health is in the middle of an upgrade: what follows would
# finish it, for without a version etcd-fetch takes the highest that runs.
one_release() {
  local versions
  versions=$(running_versions)
  [[ $versions != *,* ]] || die 3 "nothing is done: members run $versions: bring all of them to one of these first: scripts/upgrade NODES VERSION"
  no_step
}

# no_step: ends the script where all members in $health run one version, and $list names another:
# that step is not for here.
no_step() {
  local running wanted
  running=$(running_versions)
  wanted=$(jq -r '.cluster.version // .release.version // empty' <<<"$list" 2>/dev/null) || true
  [[ ! $wanted || ! $running || $running == *,* || v${wanted#v} == "$running" ]] ||
    die 3 "nothing is done: the members run $running, and ${nodes:?} says $wanted: take that step first, scripts/upgrade NODES $wanted, or set it to $running"
}

# fitting NAME...: ends the script where a member that is healthy in $health, or whose unit runs,
# could not get its files in the end, but for those that leave: others have put its etcd there, it
# has another CA than those that join would get, or the list says otherwise of it. So it does where
# a stage before etcd-push would refuse the list.
fitting() {
  local stay why
  stay=$(etcd-unit status -q -o json <<<"$list" 2>/dev/null | jq -r --argjson health "$health" '
    [(.results[] | select(.tool == "etcd-unit" and (.code == "running" or .code == "outdated")).node),
      ($health.health.endpoints[]? | select(.healthy).node // empty)]
    | unique - $ARGS.positional | join(",")' --args "$@") || true
  local rendered code=0
  rendered=$(etcd-fetch -q <<<"$list" | etcd-cert issue -q --check | etcd-render -q --check) || code=$?
  ((code <= 1)) || die "$code" "nothing is done: what follows the change would end with that"
  [[ $stay ]] || return 0
  why=$(etcd-push -q --check --only "$stay" <<<"$rendered" 2>/dev/null |
    jq -r --arg names "$stay" 'first(.results[] | select((.code == "mismatch" or .code == "version-step")
      and .severity == "error" and (.node | IN($names | split(",")[]))) | "\(.node): \(.message)")') || true
  [[ ! $why ]] || die 3 "nothing is done: $why"
}

# fit NAMES: ends the script where the hosts of those nodes of $list, NAMES with commas
# between them, cannot run etcd. That they are no members yet is known.
fit() {
  [[ $1 ]] || return 0
  etcd-preflight -q -o json --only "$1" --skip mismatch "${skipped[@]}" <<<"${list:?}" >/dev/null
}

# The client URLs of the members of $list, as kube-apiserver takes them. Where nobody tells
# them, the exit code is etcd-member's: 69 where nobody answers.
servers() { etcd-member list -q -o endpoints <<<"${list:?}"; }

# say_servers BEFORE: what a Kubernetes operator changes next.
say_servers() {
  local now
  now=$(servers)
  say "--etcd-servers of kube-apiserver before this run: $1"
  say "--etcd-servers of kube-apiserver now:             $now"
}
