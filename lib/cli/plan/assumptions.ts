// Figures that are neither prices nor what Redis and an instance were measured to take.
import watching from './watching.json' with { type: 'json' }

/** Instances of a Cloud Run service. */
export const MOST_INSTANCES = 1_000
/** `--scaling-concurrency-target` of example/cloud-run/deploy.sh. */
export const SCRIPT_TARGET = 0.9
/** Of Cloud Run: seconds of a request, and so of a connection, at most. */
export const CLOUD_RUN_TIMEOUT = 3_600
/** The plugin closes connections after 95% of it, less up to a tenth. */
export const AGE_SHARE = 0.95 * 0.95
/** The same where `maxConnectionAge` is set: a mean of 95 %. */
export const SET_AGE_SHARE = 0.95

/** Share of a core above which Cloud Run starts instances, and pods are started here. A process has one core. */
export const CPU_TARGET = 0.6
/** Share of a core that a Redis is to use at the most. The rest is for bursts, and for clients that all come back. */
export const REDIS_SHARE = 0.6
/** Share of Memorystore for Valkey's memory that keys may take by default. */
export const VALKEY_WRITABLE = 0.8

/**
 * Of example/gke: to how many of its 4,000 connections the autoscaler fills a pod, how many pods there are at least,
 * and `maxConnectionAge` in seconds.
 */
export const POD = { target: 2_800, least: 3, maxAge: 4 * 3_600 }
/** Of example/app-engine: likewise for an instance and its 1,500, and GB of its memory and of its disk. */
export const FLEX = { target: 1_000, least: 2, memory: 2, disk: 10 }
/** Pods of 1 vCPU on an e2-standard-4: Kubernetes itself takes a part of its 4 vCPU. */
export const NODE_VCPU = 3
/** GiB of an e2-standard-4 that pods may take, about. */
export const NODE_MEMORY = 12

/** Of a connection's two log entries, and of Fastify's for its upgrade. What Cloud Logging adds is not known. */
export const LOG_BYTES = watching.entryBytes.opened + watching.entryBytes.closed + watching.entryBytes.request
/** Bytes of the platform's own entry for the request, about. */
export const REQUEST_LOG_BYTES = 1_200
/** GiB of log entries that cost nothing, each month. */
export const FREE_LOGS = 50
/** Samples of a busy instance in one export a minute. */
export const SAMPLES = watching.samples

/** Addresses of an instance in its subnet: two, and two of the revision before it during a deployment. */
export const ADDRESSES = 4
/** Fleets at once during a deployment: the old revision keeps its clients while the new one gets all that come. */
export const FLEETS = 2
/** Hours for which the instances of the revision before live on after a deployment, at most. */
export const OVERLAP = 1
