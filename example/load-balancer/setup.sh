#!/usr/bin/env bash
# Puts Google's external Application Load Balancer and Cloud Armor in front of a Cloud Run service. It keeps what exists.
set -euo pipefail

project=${GOOGLE_CLOUD_PROJECT:-}
service=chat
regions=us-central1
domain=
name=
requests_per_minute=6000
shared_redis=
dry_run=

usage () {
  cat <<END
Usage: setup.sh --domain DOMAIN [options]

Puts an external Application Load Balancer with Cloud Armor in front of a Cloud Run service in one or more regions.
It can be run again: it creates nothing twice. Once the certificate of the domain is active, it closes the service's own
address, so that clients can only connect through the load balancer.

  --domain DOMAIN          domain of the certificate, such as chat.example.com
  --project ID             Google Cloud project (default: \$GOOGLE_CLOUD_PROJECT, else the one gcloud is set to)
  --service NAME           name of the Cloud Run service, the same in each region (default: $service)
  --regions REGION,REGION  regions where it runs (default: $regions)
  --name NAME              name of everything that is created (default: the service's name)
  --requests-per-minute N  limit for one address; a whole company may share one (default: $requests_per_minute)
  --shared-redis           all regions use one Redis, so an instance that loses it stays ready
  --dry-run                print every command as for an empty project, and run none
  --help                   print this
END
}

die () {
  echo "setup.sh: $*" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --help|-h) usage; exit ;;
    --dry-run) dry_run=yes ;;
    --shared-redis) shared_redis=yes ;;
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}"; continue ;;
    --domain|--project|--service|--regions|--name|--requests-per-minute)
      [ -n "${2:-}" ] || die "$1 needs a value"
      option=${1#--}
      printf -v "${option//-/_}" %s "$2"
      shift ;;
    *) die "unknown option $1; --help lists all options" ;;
  esac
  shift
done

[[ $domain =~ ^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$ ]] || die "--domain must be a domain like chat.example.com, not '$domain'"
[[ $service =~ ^[a-z][a-z0-9-]*[a-z0-9]$ ]] || die "--service must be the name of a Cloud Run service, not $service"
[[ $regions =~ ^[a-z]+-[a-z]+[0-9]+(,[a-z]+-[a-z]+[0-9]+)*$ ]] || die "--regions must be regions separated by commas, not $regions"
name=${name:-$service}
[[ $name =~ ^[a-z][a-z0-9-]{0,51}[a-z0-9]$ ]] || die "--name must be 2 to 53 lowercase letters, digits and -, not $name"
case $requests_per_minute in ''|*[!0-9]*|0*|????????*) die "--requests-per-minute must be a whole number from 1 to 1000000, not $requests_per_minute" ;; esac
[ "$requests_per_minute" -le 1000000 ] || die "--requests-per-minute must be a whole number from 1 to 1000000, not $requests_per_minute"
several=
case $regions in *,*) several=yes ;; esac

# Nobody can answer a prompt.
export CLOUDSDK_CORE_DISABLE_PROMPTS=1
[ -n "$dry_run" ] || command -v gcloud > /dev/null || die 'gcloud is missing; install it as in https://cloud.google.com/sdk/docs/install, then: gcloud auth login'
[ -n "$project" ] || project=$(gcloud config get-value project 2> /dev/null) || true
[ -n "$project" ] || die 'no project; use --project ID, or: gcloud config set project ID'

# Commands are shown on the script's output even when a function's output is captured.
exec 3>&1

# Shows a command as it can be typed.
show () {
  local line='' word
  for word in "$@" "--project=$project"; do
    case $word in *[!A-Za-z0-9_./:=@,+-]*) word="'$word'" ;; esac
    line="$line $word"
  done
  echo "${line# }" >&3
}

# Runs a gcloud command that changes something.
run () {
  show gcloud "$@"
  [ -n "$dry_run" ] || gcloud "$@" "--project=$project"
}

# Prints the output of gcloud, or nothing in a dry run.
ask () {
  show gcloud "$@"
  [ -n "$dry_run" ] || gcloud "$@" "--project=$project"
}

# Whether a describe finds its object. Any error other than "not found", such as a missing permission, ends the script.
exists () {
  local output
  show gcloud "$@"
  [ -z "$dry_run" ] || return 1
  if output=$(gcloud "$@" "--project=$project" 2>&1); then return 0; fi
  case $output in *NOT_FOUND*|*'not found'*) return 1 ;; esac
  die "$output"
}

# create COLLECTION NAME FLAG...: a global object of the load balancer.
create () {
  local collection=$1 object=$2
  shift 2
  exists compute "$collection" describe "$object" --global || run compute "$collection" create "$object" --global "$@"
}

# The service has to exist. With several regions, Cloud Run knows their health only with these two settings.
need_service () {
  local found
  exists run services describe "$service" "--region=$1" || [ -n "$dry_run" ] ||
    die "there is no service $service in $1; deploy it first, or use --service and --regions"
  [ -n "$several" ] || return 0
  found=$(ask run services describe "$service" "--region=$1" --format=yaml)
  [ -n "$dry_run" ] && return
  case $found in *readinessProbe:*) ;; *) die "the service $service in $1 has no readiness probe, so clients would stay in a region that fails; deploy it with deploy.sh" ;; esac
  case $found in *"minScale: '"[1-9]*) ;; *) die "the service $service in $1 may scale to zero, and then Cloud Run does not know the region's health. To change that: gcloud run services update $service --region=$1 --min=1" ;; esac
}

enable_compute () {
  local enabled
  enabled=$(ask services list --enabled --filter=config.name=compute.googleapis.com --format='value(config.name)')
  [ -n "$enabled" ] || run services enable compute.googleapis.com
}

# Limits the requests of one address. Messages on an open WebSocket do not count.
limit_requests () {
  local rules verb rule=(
    --src-ip-ranges='*' --action=throttle "--rate-limit-threshold-count=$requests_per_minute" --rate-limit-threshold-interval-sec=60
    --conform-action=allow --exceed-action=deny-429 --enforce-on-key=IP
  )
  create security-policies "$name"
  rules=$(ask compute security-policies describe "$name" --global '--flatten=rules[]' \
    --format='value[separator=" "](rules.priority,rules.rateLimitOptions.rateLimitThreshold.count)')
  case $'\n'$rules$'\n' in
    *$'\n'"1000 $requests_per_minute"$'\n'*) return ;;
    *$'\n1000 '*) verb=update ;;
    *) verb=create ;;
  esac
  run compute security-policies rules "$verb" 1000 "--security-policy=$name" "${rule[@]}"
}

# No timeout: a serverless backend does not accept one.
create_backend () {
  local region policy groups
  create backend-services "$name" --load-balancing-scheme=EXTERNAL_MANAGED
  policy=$(ask compute backend-services describe "$name" --global --format='value(securityPolicy)')
  [ -n "$policy" ] || run compute backend-services update "$name" --global "--security-policy=$name"
  groups=$(ask compute backend-services describe "$name" --global '--flatten=backends[]' --format='value(backends.group)')
  for region in ${regions//,/ }; do
    exists compute network-endpoint-groups describe "$name" "--region=$region" ||
      run compute network-endpoint-groups create "$name" "--region=$region" --network-endpoint-type=serverless "--cloud-run-service=$service"
    case $groups$'\n' in
      *"/regions/$region/networkEndpointGroups/$name"$'\n'*) ;;
      *) run compute backend-services add-backend "$name" --global "--network-endpoint-group=$name" "--network-endpoint-group-region=$region" ;;
    esac
  done
}

create_certificate () {
  local domains
  create ssl-certificates "$name" "--domains=$domain"
  domains=$(ask compute ssl-certificates describe "$name" --global --format='value(managed.domains)')
  [ -n "$dry_run" ] || [ "$domains" = "$domain" ] || die "the certificate $name is for $domains, which cannot be changed; use another --name for $domain"
}

# HTTPS goes to the service.
create_https () {
  create url-maps "$name" "--default-service=$name"
  create target-https-proxies "$name" "--url-map=$name" "--ssl-certificates=$name"
  create forwarding-rules "$name-https" --load-balancing-scheme=EXTERNAL_MANAGED "--address=$name" "--target-https-proxy=$name" --ports=443
}

# HTTP is redirected to HTTPS.
create_redirect () {
  local map="{\"name\":\"$name-redirect\",\"defaultUrlRedirect\":{\"httpsRedirect\":true,\"redirectResponseCode\":\"MOVED_PERMANENTLY_DEFAULT\"}}"
  if ! exists compute url-maps describe "$name-redirect" --global; then
    printf '%s' "echo '$map' | " >&3
    run compute url-maps import "$name-redirect" --global <<< "$map"
  fi
  create target-http-proxies "$name-redirect" "--url-map=$name-redirect"
  create forwarding-rules "$name-http" --load-balancing-scheme=EXTERNAL_MANAGED "--address=$name" "--target-http-proxy=$name-redirect" --ports=80
}

# Both at once: as long as clients can use the service's own address, they could forge theirs if the app trusted a proxy.
close_service () {
  local region env=TRUSTED_PROXIES=1
  [ -z "$several" ] || [ -n "$shared_redis" ] || env=$env,REDIS_READINESS=always
  for region in ${regions//,/ }; do
    run run services update "$service" "--region=$region" --ingress=internal-and-cloud-load-balancing "--update-env-vars=$env"
  done
}

trap '[ $? -eq 0 ] || echo "setup.sh: stopped. What was created stays. Run it again to continue." >&2' EXIT

for region in ${regions//,/ }; do need_service "$region"; done
enable_compute
create addresses "$name" --ip-version=IPV4
limit_requests
create_backend
create_certificate
create_https
create_redirect
address=$(ask compute addresses describe "$name" --global --format='value(address)')
status=$(ask compute ssl-certificates describe "$name" --global --format='value(managed.status)')
case $dry_run$status in
  yes|ACTIVE) close_service; [ -n "$dry_run" ] || echo "Ready: https://$domain" ;;
  *)
    echo "The certificate is $status. Create an A record that points $domain to $address. Then it takes minutes to hours until the certificate is ACTIVE."
    echo "Run this again when it is. Until then clients keep using the service's own address." ;;
esac
