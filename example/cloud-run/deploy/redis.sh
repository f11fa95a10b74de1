# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034 # the options are set in options.sh, and other parts use what is set here
# Redis, which connects the instances: Memorystore for Valkey, Memorystore for Redis, or an existing one.

# A chat in rooms of 50, with 950 connections per instance, uses 60% of a core of Redis at the first number of instances, and all of it at the second
# (bench/README.md, "Where one core is full").
INSTANCES_AT_60_PERCENT=72
INSTANCES_AT_100_PERCENT=109

# differs OPTION WANTED PRESENT ADVICE: ends the script if an option cannot change what exists.
differs () {
  ! is_given "$1" || [ "$2" = "$3" ] || die "$1 $2 has no effect on $instance, which already exists and has $3. $4"
}

# Asks for the settings of the instance.
look_at_redis () {
  case $redis in
    valkey) look memorystore instances describe "$instance" "--location=$region" '--format=value[separator="|"](state,mode,authorizationMode,transitEncryptionMode,shardCount,replicaCount,nodeType,endpoints[0].connections[0].pscAutoConnection.network.basename())' ;;
    redis) look redis instances describe "$instance" "--region=$region" '--format=value[separator="|"](state,host,port,transitEncryptionMode,authEnabled,tier,memorySizeGb,authorizedNetwork.basename())' ;;
  esac
}

check_redis () {
  local mode auth tls shards replicas node tier size of
  has_redis=
  if [ "$redis" = url ]; then
    look secrets versions describe latest "--secret=$redis_url_secret" '--format=value(name.basename())' || [ -n "$dry_run" ] ||
      die "there is no secret $redis_url_secret with a version. Create it: printf %s REDIS_URL | gcloud secrets create $redis_url_secret --replication-policy=automatic --data-file=- --project=$project"
    return
  fi
  [ -n "$cluster_mode" ] || [ "$max_instances" -le "$INSTANCES_AT_60_PERCENT" ] ||
    say "one Redis serves about $INSTANCES_AT_60_PERCENT full instances of a chat at 60% of a core, and $INSTANCES_AT_100_PERCENT at 100%; --max-instances is $max_instances. Use --cluster-mode for more"
  if ! look_at_redis; then
    [ "$redis" = redis ] || roles="$roles roles/memorystore.dbConnectionUser"
    return
  fi
  has_redis=yes
  local again="Use another --service, or delete it first, with all its data."
  case $redis in
    valkey)
      IFS='|' read -r _ mode auth _ shards replicas node of <<< "$answer"
      [ "$auth" = AUTH_DISABLED ] || roles="$roles roles/memorystore.dbConnectionUser"
      local update="gcloud memorystore instances update $instance --location=$region --project=$project"
      differs --cluster-mode CLUSTER "$mode" "$again"
      differs --redis-shards "$redis_shards" "$shards" "Change it: $update --shard-count=$redis_shards"
      differs --redis-replicas "$redis_replicas" "${replicas:-0}" "Change it: $update --replica-count=$redis_replicas"
      differs --redis-node "$redis_node" "$(tr 'A-Z_' 'a-z-' <<< "$node")" "Change it: $update --node-type=$redis_node" ;;
    redis)
      IFS='|' read -r _ _ _ tls _ tier size of <<< "$answer"
      [ "$tier" = BASIC ] && tier=basic || tier=standard
      differs --redis-tier "$redis_tier" "$tier" "$again"
      [ -z "$redis_tls" ] || differs --redis-tls yes "$([ "$tls" = SERVER_AUTHENTICATION ] && echo yes || echo no)" "$again"
      differs --redis-size "$redis_size" "$size" "Change it: gcloud redis instances update $instance --region=$region --size=$redis_size --project=$project" ;;
  esac
  # Valkey has no network until it has been created.
  [ -z "$of" ] || differs --network "$network" "$of" "$again"
}

# Valkey needs this policy to get an address in a network. A network has one per region.
create_policy () {
  local policies
  policies=$(ask network-connectivity service-connection-policies list "--region=$region" '--format=value[separator=" "](network.basename(),serviceClass)')
  has_line "$policies" "$network gcp-memorystore" ||
    run network-connectivity service-connection-policies create "memorystore-$network" "--region=$region" "--network=$network" \
      --service-class=gcp-memorystore "--subnets=$subnet"
}

create_redis () {
  local mode=cluster-disabled shards=1 tls=
  [ "$redis" != url ] && [ -z "$has_redis" ] || return 0
  if [ "$redis" = redis ]; then
    [ -z "$redis_tls" ] || tls=--transit-encryption-mode=server-authentication
    run redis instances create "$instance" "--region=$region" "--network=$network" "--tier=$redis_tier" "--size=$redis_size" \
      --redis-version=redis_7_2 --enable-auth ${tls:+"$tls"}
    return
  fi
  create_policy
  [ -z "$cluster_mode" ] || { mode=cluster; shards=$redis_shards; }
  run memorystore instances create "$instance" "--location=$region" "--mode=$mode" "--shard-count=$shards" "--replica-count=$redis_replicas" \
    "--node-type=$redis_node" --engine-version=VALKEY_8_0 --authorization-mode=iam-auth --transit-encryption-mode=server-authentication \
    "--endpoints=[{\"connections\":[{\"pscAutoConnection\":{\"network\":\"projects/$project/global/networks/$network\",\"projectId\":\"$project\"}}]}]"
}

# Sets host, port, redis_tls, redis_auth (iam, password or nothing) and cluster_mode. If an earlier run was interrupted during creation,
# the instance has no address yet.
wait_for_redis () {
  local state mode auth tls tries=0
  host=ADDRESS port=PORT
  [ "$redis" != url ] || return 0
  while look_at_redis; do
    state=${answer%%|*}
    case $state in
      CREATING)
        tries=$((tries + 1))
        [ "$tries" -le 90 ] || die "$instance is still being created after half an hour; look at it in the console, then run this again"
        [ "$tries" -gt 1 ] || say "waiting for $instance, which is being created"
        sleep 20 ;;
      DELETING) die "$instance is being deleted; run this again once it is deleted" ;;
      *) break ;;
    esac
  done
  case $dry_run$redis in
    yesvalkey) redis_tls=yes redis_auth=iam; address_of_valkey ;;
    yesredis) redis_auth=password ;;
    valkey)
      IFS='|' read -r _ mode auth tls _ <<< "$answer"
      [ "$mode" = CLUSTER ] && cluster_mode=yes || cluster_mode=
      [ "$auth" = IAM_AUTH ] && redis_auth=iam || redis_auth=
      address_of_valkey ;;
    redis)
      IFS='|' read -r _ host port tls auth _ <<< "$answer"
      [ "$auth" = True ] && redis_auth=password || redis_auth= ;;
  esac
  [ -n "$dry_run" ] || { [ "$tls" = SERVER_AUTHENTICATION ] && redis_tls=yes || redis_tls=; }
  [ "${host:+$port}" ] || die "$instance has no address; look at it in the console, then run this again"
}

# The address of a cluster is its discovery endpoint. Without cluster mode it is the address of the primary, whichever node that is.
address_of_valkey () {
  local type address its_port kind=PRIMARY
  [ -z "$cluster_mode" ] || kind=DISCOVERY
  answer=$(ask memorystore instances describe "$instance" "--location=$region" '--flatten=endpoints[].connections[]' '--format=value[separator="|"](endpoints.connections.pscAutoConnection.connectionType,endpoints.connections.pscAutoConnection.ipAddress,endpoints.connections.pscAutoConnection.port)')
  [ -z "$dry_run" ] || return 0
  host='' port=''
  while IFS='|' read -r type address its_port; do
    [ "$type" != "CONNECTION_TYPE_$kind" ] || { host=$address; port=$its_port; }
  done <<< "$answer"
}

# The certificates and the password are files: they may change while the service runs.
keep_redis_secrets () {
  local certificates password
  secrets=$token_secret
  env_vars=
  secret_vars=
  if [ "$redis" = url ]; then
    secrets="$redis_url_secret $secrets"
    return
  fi
  env_vars="REDISHOST=$host,REDISPORT=$port"
  if [ -n "$redis_tls" ]; then
    case $redis in
      valkey) certificates=$(ask memorystore instances get-certificate-authority "$instance" "--location=$region" '--flatten=managedServerCa.caCerts[].certificates[]' '--format=value(managedServerCa.caCerts.certificates)') ;;
      redis) certificates=$(ask redis instances describe "$instance" "--region=$region" '--flatten=serverCaCerts[]' '--format=value(serverCaCerts.cert)') ;;
    esac
    [ -n "$dry_run$certificates" ] || die "$instance has no CA certificate yet; run this again in a minute"
    keep_secret "$ca_secret" "$certificates"
    secrets="$ca_secret $secrets"
    env_vars="$env_vars,REDIS_CA_FILE=/secrets/redis-ca/ca.pem"
    secret_vars="/secrets/redis-ca/ca.pem=$ca_secret:latest,"
  fi
  case $redis_auth in
    iam) env_vars="$env_vars,REDIS_AUTH=iam" ;;
    password)
      password=$(ask redis instances get-auth-string "$instance" "--region=$region" '--format=value(authString)')
      [ -n "$dry_run$password" ] || die "$instance has no AUTH string yet; run this again in a minute"
      keep_secret "$password_secret" "$password"
      secrets="$password_secret $secrets"
      env_vars="$env_vars,REDIS_PASSWORD_FILE=/secrets/redis-password/password"
      secret_vars="${secret_vars}/secrets/redis-password/password=$password_secret:latest," ;;
  esac
  [ -z "$cluster_mode" ] || env_vars="$env_vars,REDIS_CLUSTER=true"
}
