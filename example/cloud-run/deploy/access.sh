# shellcheck shell=bash
# shellcheck disable=SC2154 # the options are set in options.sh
# Accounts, their roles, and secrets.

# create_account EMAIL WHAT_FOR
create_account () {
  look iam service-accounts describe "$1" || run iam service-accounts create "${1%@*}" "--display-name=$2"
}

# grant KIND NAME ROLE ACCOUNT: in a project, or for a secret alone. A role on some condition does not count.
grant () {
  local policy
  policy=$(ask "$1" get-iam-policy "$2" '--flatten=bindings[].members' '--filter=NOT bindings.condition:*' '--format=value[separator=" "](bindings.role,bindings.members)')
  has_line "$policy" "$3 serviceAccount:$4" ||
    patiently run "$1" add-iam-policy-binding "$2" "--member=serviceAccount:$4" "--role=$3" --condition=None > /dev/null
}

# keep_secret NAME VALUE [once]: its newest version has this value; with "once" it keeps an existing value. Creating a secret takes two
# steps. If a run stopped in between, the secret has no version.
keep_secret () {
  if look secrets describe "$1"; then
    if look secrets versions access latest "--secret=$1"; then
      [ "${3:-}" != once ] && [ "$answer" != "$2" ] || return 0
    fi
    run_with "$2" secrets versions add "$1" --data-file=-
  else
    run_with "$2" secrets create "$1" --replication-policy=automatic --data-file=-
  fi
}

# Tokens signed with it must stay valid, so it is created once.
keep_token_secret () {
  keep_secret "$service-token-secret" "$(head -c 32 /dev/urandom | base64)" once
}

# Sets $answer to the newest version of a secret. An environment variable is read when an instance starts: with :latest, instances of one revision
# could have different values.
version_of () {
  look secrets versions describe latest "--secret=$1" '--format=value(name.basename())' || answer=1
}
