# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # project, dry_run and script are set where this file is used
# Shows and runs commands.

die () {
  echo "$script: $*" >&2
  exit 1
}

say () {
  echo "$script: $*" >&2
}

# Nobody can answer a prompt.
export CLOUDSDK_CORE_DISABLE_PROMPTS=1
# Commands are shown on the script's output even when a function's output is captured.
exec 3>&1

# Determines the project, and creates a temporary folder.
begin () {
  if [ -z "$dry_run" ]; then
    command -v gcloud > /dev/null || die 'gcloud is missing; install it as in https://cloud.google.com/sdk/docs/install, then: gcloud auth login'
    tmp=$(mktemp -d)
    trap 'finish $?' EXIT
  fi
  [ -n "$project" ] || project=$(gcloud config get-value project 2> /dev/null) || true
  [ -n "$project" ] || die 'no project; use --project ID, or: gcloud config set project ID'
}

finish () {
  rm -rf "$tmp"
  [ "$1" -eq 0 ] || [ "$script" != deploy.sh ] || say 'stopped. What was created stays. Run it again to continue.'
}

# Shows a command as it can be typed.
show () {
  local line='' word
  for word in "$@"; do
    case $word in
      *\'*) printf -v word %q "$word" ;;
      *[!A-Za-z0-9_./:=@,+-]*) word="'$word'" ;;
    esac
    line="$line $word"
  done
  echo "${line# }" >&3
}

# Runs a gcloud command that changes something.
run () {
  show gcloud "$@" "--project=$project"
  [ -n "$dry_run" ] || gcloud "$@" "--project=$project"
}

# The same, with a secret on stdin: others could read it on a command line.
run_with () {
  local secret=$1
  shift
  # shellcheck disable=SC2016 # shown like this
  printf '%s' 'printf %s "$SECRET" | ' >&3
  show gcloud "$@" "--project=$project"
  [ -n "$dry_run" ] || printf %s "$secret" | gcloud "$@" "--project=$project"
}

# Retries once, two minutes later, if a permission is missing: new roles take minutes to be known everywhere.
patiently () {
  [ -z "$dry_run" ] || { "$@"; return; }
  if { "$@" 2>&1 >&5 | tee "$tmp/errors" >&2; } 5>&1; then return; fi
  case $(<"$tmp/errors") in
    *PERMISSION_DENIED*|*'does not have'*|*ermission*denied*|*'ervice account'*'does not exist'*) ;;
    *) return 1 ;;
  esac
  say 'new roles take a few minutes to be known everywhere; trying again in two minutes'
  sleep 120
  "$@"
}

# Prints the output of gcloud, or nothing in a dry run.
ask () {
  show gcloud "$@" "--project=$project"
  [ -n "$dry_run" ] || gcloud "$@" "--project=$project"
}

# Whether a command finds its object; its output is then in $answer. Any error other than "not found", such as a missing permission,
# ends the script.
look () {
  show gcloud "$@" "--project=$project"
  answer=
  [ -z "$dry_run" ] || return 1
  if answer=$(gcloud "$@" "--project=$project" 2> "$tmp/errors"); then return 0; fi
  case $(<"$tmp/errors") in *NOT_FOUND*|*'not found'*|*'Cannot find'*) return 1 ;; esac
  die "$(<"$tmp/errors")"
}

has_line () {
  case $'\n'$1$'\n' in *$'\n'"$2"$'\n'*) return 0 ;; esac
  return 1
}

# whole NAME VALUE MIN MAX
whole () {
  case $2 in ''|*[!0-9]*) die "$1 must be a whole number from $3 to $4, not $2" ;; esac
  # Longer numbers are too large for the shell.
  if [ "${#2}" -gt 9 ] || [ "$2" -lt "$3" ] || [ "$2" -gt "$4" ]; then die "$1 must be a whole number from $3 to $4, not $2"; fi
}
