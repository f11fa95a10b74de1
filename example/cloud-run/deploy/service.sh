# shellcheck shell=bash
# shellcheck disable=SC2054,SC2154 # commas are for gcloud; the options are set in options.sh
# The service itself.

# Checks the existing service. Ends the script before anything is created if the result would be a surprise.
check_service () {
  local label newest access has_cpu has_memory has_concurrency has_timeout has_min has_max of_revision
  local scaling="metadata.annotations['run.googleapis.com/minScale'],metadata.annotations['run.googleapis.com/maxScale'],spec.template.metadata.annotations['autoscaling.knative.dev/maxScale']"
  has_service='' previous=''
  if ! look run services describe "$service" "--region=$region" '--format=value[separator="|"](metadata.labels.redis,spec.traffic[].latestRevision,status.latestReadyRevisionName,metadata.labels.access,spec.template.spec.containers[0].resources.limits.cpu,spec.template.spec.containers[0].resources.limits.memory,spec.template.spec.containerConcurrency,spec.template.spec.timeoutSeconds,'"$scaling)"; then
    [ -z "$no_traffic" ] || [ -n "$dry_run" ] || die "--no-traffic is for an existing service; there is no $service in $region yet"
    return 0
  fi
  has_service=yes
  IFS='|' read -r label newest previous access has_cpu has_memory has_concurrency has_timeout has_min has_max of_revision <<< "$answer"
  [ "$label" ] || [ -n "$adopt" ] ||
    die "$service exists, but without the label that deploy.sh gives (an earlier deploy.sh gave none). Use another --service, or --adopt to replace it"
  case $label in
    ''|"$redis") ;;
    url) is_given --redis || die "$service uses your own Redis; add --redis-url-secret NAME, or --redis $redis to create a new one" ;;
    *) is_given --redis || [ "$redis" = url ] || die "$service uses --redis $label; add that, or --redis $redis to create a new one" ;;
  esac
  [ -n "$access$private$public" ] || die "nobody can see whether $service is private; add --private or --public"
  [ "$access" != private ] || [ -n "$private$public" ] ||
    die "$service is private; add --private, or --public to open it to everybody"
  case $no_traffic$newest in
    yes*|*True*) ;;
    *) die "traffic.sh has pinned $service to a revision, so a new one would get no clients. Use --no-traffic, and then traffic.sh" ;;
  esac
  # A service of somebody else has settings that were not made for WebSockets.
  [ "$label" ] || return 0
  # Cloud Run also writes 1 as 1000m.
  keep --cpu "${has_cpu%000m}"
  keep --memory "$has_memory"
  keep --concurrency "$has_concurrency"
  keep --timeout "$has_timeout"
  # Without a minimum the service has none. Of the maximum of the service and that of its revisions the lower one counts.
  keep --min-instances "${has_min:-0}"
  [ -n "$has_max" ] || has_max=$of_revision
  [ -z "$of_revision" ] || [ "$of_revision" -ge "$has_max" ] || has_max=$of_revision
  keep --max-instances "$has_max"
  check_instances
}

# keep OPTION PRESENT: what somebody has changed at the service stays, unless the option is given.
keep () {
  local name=${1#--}
  name=${name//-/_}
  if [ -n "$2" ] && [ "$2" != "${!name}" ] && ! is_given "$1"; then
    say "keeping $1=$2, which the service has"
    printf -v "$name" %s "$2"
  fi
}

# The variables for another kind of Redis, which the service may have from an earlier run.
unused () {
  local name
  for name in "$@"; do
    case ",$env_vars,$secret_vars" in *",$name="*) ;; *) printf '%s,' "$name" ;; esac
  done
}

deploy () {
  local command names
  version_of "$token_secret"
  secret_vars="${secret_vars}TOKEN_SECRET=$token_secret:$answer"
  if [ "$redis" = url ]; then
    version_of "$redis_url_secret"
    secret_vars="REDIS_URL=$redis_url_secret:$answer,$secret_vars"
  fi
  command=(
    run deploy "$service" "--region=$region" "--source=$context"
    "--service-account=$service_account" "--build-service-account=projects/$project/serviceAccounts/$build_account"
    "--timeout=$timeout" "--concurrency=$concurrency" "--min=$min_instances" "--max-instances=$max_instances"
    "--cpu=$cpu" "--memory=$memory" --no-cpu-throttling --cpu-boost --execution-environment=gen2
    --port=8080 --no-use-http2 "$affinity"
    "--network=$network" "--subnet=$subnet" --vpc-egress=private-ranges-only
    "--update-env-vars=CLOUD_RUN_TIMEOUT_SECONDS=$timeout,CLOUD_RUN_CONCURRENCY=$concurrency,CLOUD_RUN_MAX_INSTANCES=$max_instances${env_vars:+,$env_vars}"
    "--update-secrets=$secret_vars"
    "--update-labels=redis=$redis,access=$([ -n "$private" ] && echo private || echo public)"
    --startup-probe=httpGet.path=/ready,periodSeconds=1,timeoutSeconds=1,failureThreshold=180
    --liveness-probe=httpGet.path=/health,periodSeconds=10,timeoutSeconds=5,failureThreshold=6
  )
  if [ -n "$has_service" ]; then
    names=$(unused REDISHOST REDISPORT REDIS_CA_FILE REDIS_PASSWORD_FILE REDIS_AUTH REDIS_CLUSTER)
    [ -z "$names" ] || command+=("--remove-env-vars=${names%,}")
    names=$(unused REDIS_URL /secrets/redis-ca/ca.pem /secrets/redis-password/password)
    [ -z "$names" ] || command+=("--remove-secrets=${names%,}")
  fi
  ! knows --readiness-probe || command+=(--readiness-probe=httpGet.path=/ready,periodSeconds=5,timeoutSeconds=3,failureThreshold=2,successThreshold=1)
  ! knows --scaling-concurrency-target || command+=(--scaling-concurrency-target=0.9)
  ! knows --max || command+=("--max=$max_instances")
  add_access
  [ -z "$no_traffic" ] || command+=(--no-traffic --tag=canary)
  patiently run "${command[@]}"
  # traffic.sh --rollback goes back to it. With --no-traffic, traffic.sh sets the tag.
  [ -z "$previous" ] || [ -n "$no_traffic" ] ||
    run run services update-traffic "$service" "--region=$region" "--update-tags=previous=$previous"
}

# Who may connect. If an organization policy admits only its own members, no role can be given to everyone, but the check can be turned off.
# Older gclouds have the flag for a few invited customers. A private service has it wherever it is known, because the check may be off.
add_access () {
  if [ -n "$private" ]; then
    ! knows invoker-iam-check || command+=(--invoker-iam-check)
    command+=(--no-allow-unauthenticated)
    return
  fi
  case $deploy_help in
    *'invitation only'*) command+=(--allow-unauthenticated) ;;
    *) knows invoker-iam-check && command+=(--no-invoker-iam-check) || command+=(--allow-unauthenticated) ;;
  esac
}

report () {
  local url
  if [ -n "$no_traffic" ]; then
    url=$(ask run services describe "$service" "--region=$region" '--flatten=status.traffic[]' '--filter=status.traffic.tag=canary' '--format=value(status.traffic.url)')
    [ -n "$dry_run" ] || printf '%s\n' "Deployed without clients: $url" "Try it there, then: traffic.sh --to 10 --service $service --region $region --project $project"
  else
    url=$(ask run services describe "$service" "--region=$region" '--format=value(status.url)')
    [ -n "$dry_run" ] || echo "Deployed: $url"
  fi
}
