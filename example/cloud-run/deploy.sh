#!/usr/bin/env bash
# Deploys this folder to Cloud Run, with a Redis that joins its instances. What is there already stays as it is: run it again to deploy a change.
set -euo pipefail

folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=${GOOGLE_CLOUD_PROJECT:-}
region=us-central1
service=chat
source=$folder
network=default
subnet=default
min_instances=1
max_instances=100
cpu=1
memory=1Gi
concurrency=1000
timeout=3600
redis_tier=basic
redis_size=1
# Metrics reach Cloud Monitoring through the Telemetry API. Log entries on stdout need no role.
roles='roles/telemetry.writer roles/serviceusage.serviceUsageConsumer'
role=
access=--allow-unauthenticated
dry_run=

usage () {
  cat <<END
Usage: deploy.sh [options]

Deploys a folder to Cloud Run with a Memorystore for Redis, and whatever they need. Running it again makes nothing twice.

  --project ID         Google Cloud project (default: \$GOOGLE_CLOUD_PROJECT, else the one gcloud is set to)
  --region REGION      where all of it is (default: $region)
  --service NAME       of the service; the names of all else begin with it (default: $service)
  --source FOLDER      with a Dockerfile (default: the folder of this script)
  --network NAME       VPC network of Redis (default: $network)
  --subnet NAME        of that network, /26 or larger; the instances get addresses in it (default: $subnet)
  --min-instances N    that are always there (default: $min_instances)
  --max-instances N    (default: $max_instances)
  --cpu N              vCPUs of an instance; Node uses little more than one (default: $cpu)
  --memory SIZE        of an instance (default: $memory)
  --concurrency N      requests, and so connections, of an instance, 1000 at the most (default: $concurrency)
  --timeout SECONDS    after which Cloud Run ends a request, and so a connection, 3600 at the most (default: $timeout)
  --redis-tier TIER    basic, or standard: with a replica that takes over (default: $redis_tier)
  --redis-size GIB     (default: $redis_size)
  --role ROLE          one more role that the service has in the project, such as roles/logging.logWriter
  --private            only callers with the role roles/run.invoker may connect
  --dry-run            print every command as for an empty project, and run none
  --help               print this
END
}

die () {
  echo "deploy.sh: $*" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --help|-h) usage; exit ;;
    --dry-run) dry_run=yes ;;
    --private) access=--no-allow-unauthenticated ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
    --role|--project|--region|--service|--source|--network|--subnet|--min-instances|--max-instances|--cpu|--memory|--concurrency|--timeout|--redis-tier|--redis-size)
      [ -n "${2:-}" ] || die "$1 needs a value"
      name=${1#--}
      printf -v "${name//-/_}" %s "$2"
      [ "$1" != --role ] || roles="$roles $role"
      shift ;;
    *) die "unknown option $1; --help lists those there are" ;;
  esac
  shift
done

# whole NAME VALUE MIN MAX
whole () {
  case $2 in ''|*[!0-9]*) die "$1 must be a whole number from $3 to $4, not $2" ;; esac
  [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] || die "$1 must be a whole number from $3 to $4, not $2"
}
whole --min-instances "$min_instances" 0 1000
whole --max-instances "$max_instances" 1 1000
whole --concurrency "$concurrency" 1 1000
whole --timeout "$timeout" 1 3600
whole --redis-size "$redis_size" 1 300
[ "$min_instances" -le "$max_instances" ] || die "--min-instances ($min_instances) must not be more than --max-instances ($max_instances)"
case $redis_tier in basic|standard) ;; *) die "--redis-tier must be basic or standard, not $redis_tier" ;; esac
# Names of service accounts have at most 30 characters.
[[ $service =~ ^[a-z][a-z0-9-]{0,22}[a-z0-9]$ ]] || die "--service must be 2 to 24 small letters, digits and -, not $service"
[ -f "$source/Dockerfile" ] || die "there is no Dockerfile in $source"

# Nobody is there to answer a question.
export CLOUDSDK_CORE_DISABLE_PROMPTS=1
[ -n "$dry_run" ] || command -v gcloud > /dev/null || die 'gcloud is missing; install it as in https://cloud.google.com/sdk/docs/install, then: gcloud auth login'
[ -n "$project" ] || project=$(gcloud config get-value project 2> /dev/null) || true
[ -n "$project" ] || die 'no project; use --project ID, or: gcloud config set project ID'

redis=$service-redis
redis_url_secret=$service-redis-url
token_secret=$service-token-secret
service_account=$service-run@$project.iam.gserviceaccount.com
build_account=$service-build@$project.iam.gserviceaccount.com

# Commands are shown on the script's output also where a function's output is taken.
exec 3>&1

# Shows a command as it can be typed.
show () {
  local line='' word
  for word in "$@" "--project=$project"; do
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
  show gcloud "$@"
  [ -n "$dry_run" ] || gcloud "$@" "--project=$project"
}

# Likewise, with a secret on its input: on a command line others could read it.
run_with () {
  local secret=$1
  shift
  # shellcheck disable=SC2016 # shown like this
  printf '%s' 'printf %s "$SECRET" | ' >&3
  show gcloud "$@"
  [ -n "$dry_run" ] || printf %s "$secret" | gcloud "$@" "--project=$project"
}

# Prints what gcloud answers. In a dry run that is nothing.
ask () {
  show gcloud "$@"
  [ -n "$dry_run" ] || gcloud "$@" "--project=$project"
}

# Whether a describe finds its object. Anything else than "not found", a missing permission for example, ends the script.
exists () {
  local output
  show gcloud "$@"
  [ -z "$dry_run" ] || return 1
  if output=$(gcloud "$@" "--project=$project" 2>&1); then return 0; fi
  case $output in *NOT_FOUND*|*'not found'*) return 1 ;; esac
  die "$output"
}

# Ends the script unless a describe finds its object.
need () {
  local advice=$1
  shift
  exists "$@" || [ -n "$dry_run" ] || die "$advice"
}

has_line () {
  case $'\n'$1$'\n' in *$'\n'"$2"$'\n'*) return 0 ;; esac
  return 1
}

enable_apis () {
  local enabled api missing=()
  enabled=$(ask services list --enabled --format='value(config.name)')
  for api in artifactregistry cloudbuild compute iam logging monitoring redis run secretmanager telemetry; do
    has_line "$enabled" "$api.googleapis.com" || missing+=("$api.googleapis.com")
  done
  [ "${#missing[@]}" -eq 0 ] || run services enable "${missing[@]}"
}

# create_account EMAIL WHAT_FOR
create_account () {
  exists iam service-accounts describe "$1" || run iam service-accounts create "${1%@*}" "--display-name=$2"
}

create_redis () {
  exists redis instances describe "$redis" "--region=$region" && return
  run redis instances create "$redis" "--region=$region" "--network=$network" "--tier=$redis_tier" "--size=$redis_size" \
    --redis-version=redis_7_2 --enable-auth
}

# keep_secret NAME VALUE: its latest version has this value.
keep_secret () {
  local current
  if exists secrets describe "$1"; then
    current=$(ask secrets versions access latest "--secret=$1")
    [ "$current" = "$2" ] || run_with "$2" secrets versions add "$1" --data-file=-
  else
    run_with "$2" secrets create "$1" --replication-policy=automatic --data-file=-
  fi
}

# The URL that the plugin reads, with the AUTH string, is kept in Secret Manager. A Redis that was made anew has another one.
keep_redis_url () {
  local address auth
  address=$(ask redis instances describe "$redis" "--region=$region" --format='value[separator=":"](host,port)')
  auth=$(ask redis instances get-auth-string "$redis" "--region=$region" --format='value(authString)')
  keep_secret "$redis_url_secret" "redis://${auth:+:$auth@}$address"
}

# Tokens that were signed with it must stay valid: it is made once.
create_token_secret () {
  exists secrets describe "$token_secret" && return
  run_with "$(head -c 32 /dev/urandom | base64)" secrets create "$token_secret" --replication-policy=automatic --data-file=-
}

# grant KIND NAME ROLE ACCOUNT: in a project, or for a secret alone.
grant () {
  local policy
  policy=$(ask "$1" get-iam-policy "$2" '--flatten=bindings[].members' --format='value[separator=" "](bindings.role,bindings.members)')
  has_line "$policy" "$3 serviceAccount:$4" ||
    run "$1" add-iam-policy-binding "$2" "--member=serviceAccount:$4" "--role=$3" --condition=None > /dev/null
}

grant_roles () {
  local role secret
  grant projects "$project" roles/run.builder "$build_account"
  for role in $roles; do grant projects "$project" "$role" "$service_account"; done
  for secret in "$redis_url_secret" "$token_secret"; do grant secrets "$secret" roles/secretmanager.secretAccessor "$service_account"; done
}

deploy () {
  local help command=(
    run deploy "$service" "--region=$region" "--source=$source" "$access"
    "--service-account=$service_account" "--build-service-account=projects/$project/serviceAccounts/$build_account"
    "--timeout=$timeout" "--concurrency=$concurrency" "--min-instances=$min_instances" "--max-instances=$max_instances"
    "--cpu=$cpu" "--memory=$memory" --no-cpu-throttling --cpu-boost --execution-environment=gen2
    --port=8080 --no-use-http2 --session-affinity
    "--network=$network" "--subnet=$subnet" --vpc-egress=private-ranges-only
    "--update-env-vars=CLOUD_RUN_TIMEOUT_SECONDS=$timeout,CLOUD_RUN_CONCURRENCY=$concurrency,CLOUD_RUN_MAX_INSTANCES=$max_instances"
    "--update-secrets=REDIS_URL=$redis_url_secret:latest,TOKEN_SECRET=$token_secret:latest"
    --startup-probe=httpGet.path=/ready,periodSeconds=1,timeoutSeconds=1,failureThreshold=180
    --liveness-probe=httpGet.path=/health,periodSeconds=10,timeoutSeconds=5,failureThreshold=6
  )
  help=$(ask run deploy --help)
  case $dry_run$help in
    yes|*--readiness-probe*) command+=(--readiness-probe=httpGet.path=/ready,periodSeconds=5,timeoutSeconds=3,failureThreshold=2) ;;
    *) echo 'deploy.sh: this gcloud knows no --readiness-probe, so instances that are full or without Redis get new connections too. Then: gcloud components update' >&2 ;;
  esac
  run "${command[@]}"
}

trap '[ $? -eq 0 ] || echo "deploy.sh: stopped. What was made stays; run it again to go on." >&2' EXIT

need "there is no project $project, or no access to it" projects describe "$project"
enable_apis
need "there is no subnet $subnet in $region; use --network and --subnet, or: gcloud compute networks create $network --subnet-mode=auto --project=$project" \
  compute networks subnets describe "$subnet" "--region=$region"
# First the accounts: new ones are not known everywhere at once, and Redis takes some minutes.
create_account "$service_account" "$service: runs the service"
create_account "$build_account" "$service: builds the image"
create_redis
keep_redis_url
create_token_secret
grant_roles
deploy
url=$(ask run services describe "$service" "--region=$region" --format='value(status.url)')
[ -n "$dry_run" ] || echo "Deployed: $url"
