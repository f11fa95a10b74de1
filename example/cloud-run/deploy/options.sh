# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the other parts use what is set here, and the other way round
# The options and their defaults.

project=${GOOGLE_CLOUD_PROJECT:-}
region=us-central1
service=chat
source=$folder
package=
network=default
subnet=default
min_instances=1
max_instances=100
cpu=1
memory=1Gi
concurrency=1000
timeout=3600
redis=valkey
redis_url_secret=
redis_replicas=1
redis_node=standard-small
redis_shards=3
cluster_mode=
redis_tier=standard
redis_size=1
redis_tls=
budget=
# Metrics reach Cloud Monitoring through the Telemetry API. Log entries on stdout need no role.
roles='roles/telemetry.metricsWriter roles/serviceusage.serviceUsageConsumer'
role=
private=
public=
adopt=
affinity=--no-session-affinity
no_traffic=
dry_run=
# The options that were given explicitly.
given=' '

usage () {
  cat <<END
Usage: deploy.sh [options]

Deploys a folder to Cloud Run with a Memorystore for Valkey, and everything they need. It can be run again, and creates nothing twice.

  --project ID         Google Cloud project (default: \$GOOGLE_CLOUD_PROJECT, else the one gcloud is set to)
  --region REGION      region of the service and of Redis (default: $region)
  --service NAME       name of the service; the names of everything else begin with it (default: $service)
  --source FOLDER      folder to deploy, with a Dockerfile (default: the folder of this script)
  --package FILE       install fastify-cloud-run-websocket from this file, made by npm pack, instead of from the registry
  --network NAME       VPC network of Redis (default: $network)
  --subnet NAME        subnet of that network; it needs 4 addresses for each of --max-instances (default: $subnet)
  --min-instances N    instances that always run (default: $min_instances)
  --max-instances N    most instances that may run (default: $max_instances)
  --cpu N              vCPUs of an instance; Node uses little more than one (default: $cpu)
  --memory SIZE        memory of an instance (default: $memory)
  --concurrency N      requests, and so connections, per instance, 2 to 1000 (default: $concurrency)
  --timeout SECONDS    time after which Cloud Run ends a request, and so a connection, at most 3600 (default: $timeout)
  --redis KIND         valkey: Memorystore for Valkey, or redis: Memorystore for Redis (default: $redis)
  --redis-replicas N   valkey: replicas of each node, 0 to 5, for failover (default: $redis_replicas)
  --redis-node TYPE    valkey: size of a node: shared-core-nano, standard-small, highmem-medium or highmem-xlarge (default: $redis_node)
  --cluster-mode       valkey: with several shards
  --redis-shards N     valkey with --cluster-mode: number of shards (default: $redis_shards)
  --redis-tier TIER    redis: standard, with a replica for failover, or basic (default: $redis_tier)
  --redis-size GIB     redis: memory (default: $redis_size)
  --redis-tls          redis: encrypt the traffic; valkey always does
  --redis-url-secret NAME
                       use an existing Redis, whose URL is in this secret
  --budget AMOUNT      monthly budget of the project; mails the billing account's administrators at 50, 90 and 100% of it
  --role ROLE          another role for the service in the project, such as roles/logging.logWriter
  --private            only callers with the role roles/run.invoker may connect
  --public             open a private service to everybody; a new service is open anyway
  --adopt              replace a service that deploy.sh did not create; needs --private or --public
  --session-affinity   send clients back to their instance, even if it is full or draining; read docs/deploying.md first
  --no-traffic         create a revision that gets only the clients of its own URL; then move clients with traffic.sh
  --dry-run            print every command as for an empty project, and run none
  --help               print this
END
}

parse_options () {
  local name
  while [ $# -gt 0 ]; do
    case $1 in
      --help|-h) usage; exit ;;
      --dry-run) dry_run=yes ;;
      --private) private=yes ;;
      --public) public=yes ;;
      --adopt) adopt=yes ;;
      --session-affinity) affinity=--session-affinity ;;
      --no-traffic) no_traffic=yes ;;
      --cluster-mode) cluster_mode=yes; given="$given$1 " ;;
      --redis-tls) redis_tls=yes; given="$given$1 " ;;
      --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
      --role|--project|--region|--service|--source|--package|--network|--subnet|--min-instances|--max-instances|--cpu|--memory|--concurrency|--timeout|--redis|--redis-replicas|--redis-node|--redis-shards|--redis-tier|--redis-size|--redis-url-secret|--budget)
        [ -n "${2:-}" ] || die "$1 needs a value"
        name=${1#--}
        printf -v "${name//-/_}" %s "$2"
        given="$given$1 "
        [ "$1" != --role ] || roles="$roles $role"
        shift ;;
      *) die "unknown option $1; --help lists all options" ;;
    esac
    shift
  done
}

is_given () {
  case $given in *" $1 "*) return 0 ;; esac
  return 1
}

# Ends the script if one of these options was given.
only_for () {
  local option kind=$1
  shift
  for option in "$@"; do ! is_given "$option" || die "$option is for $kind"; done
}

check_options () {
  [ -z "$private" ] || [ -z "$public" ] || die '--private and --public exclude each other'
  whole --min-instances "$min_instances" 0 1000
  whole --max-instances "$max_instances" 1 1000
  # With 1, a connection would leave no room for anything else.
  whole --concurrency "$concurrency" 2 1000
  whole --timeout "$timeout" 1 3600
  # Below one vCPU Cloud Run takes one request at a time, which is one connection.
  case $cpu in 1|2|4|6|8) ;; *) die "--cpu must be 1, 2, 4, 6 or 8, not $cpu" ;; esac
  [[ $memory =~ ^[1-9][0-9]*(Mi|Gi)$ ]] || die "--memory must be a size such as 512Mi or 1Gi, not $memory"
  check_instances
  # Names of service accounts have at most 30 characters.
  [[ $service =~ ^[a-z][a-z0-9-]{0,22}[a-z0-9]$ ]] || die "--service must be 2 to 24 lowercase letters, digits and -, not $service"
  [ -f "$source/Dockerfile" ] || die "there is no Dockerfile in $source"
  [ -z "$budget" ] || [[ $budget =~ ^[1-9][0-9]{0,8}$ ]] || die "--budget must be a whole amount in the currency of the billing account, not $budget"
  check_redis_options
}

check_instances () {
  [ "$min_instances" -le "$max_instances" ] || die "--min-instances ($min_instances) must not be more than --max-instances ($max_instances)"
}

check_redis_options () {
  if is_given --redis-url-secret; then
    only_for 'a new Redis, and cannot be used with --redis-url-secret' --redis --redis-replicas --redis-node --cluster-mode --redis-shards --redis-tier --redis-size --redis-tls
    redis=url
    return
  fi
  whole --redis-replicas "$redis_replicas" 0 5
  whole --redis-shards "$redis_shards" 1 250
  whole --redis-size "$redis_size" 1 300
  case $redis in
    valkey) only_for '--redis redis' --redis-tier --redis-size --redis-tls ;;
    redis) only_for '--redis valkey' --redis-replicas --redis-node --cluster-mode --redis-shards ;;
    *) die "--redis must be valkey or redis, not $redis" ;;
  esac
  [ -n "$cluster_mode" ] || only_for --cluster-mode --redis-shards
  case $redis_node in shared-core-nano|standard-small|highmem-medium|highmem-xlarge) ;; *) die "--redis-node must be shared-core-nano, standard-small, highmem-medium or highmem-xlarge, not $redis_node" ;; esac
  case $redis_tier in basic|standard) ;; *) die "--redis-tier must be basic or standard, not $redis_tier" ;; esac
}
