// Figures that are neither prices nor what Redis and an instance were measured to take.

/** Of Cloud Run: seconds of a request, and so of a connection, at most. */
export const CLOUD_RUN_TIMEOUT = 3_600
/** GKE behind an external load balancer closes a connection after 24 hours. */
export const GKE_TIMEOUT = 24 * 3_600
/** The plugin closes connections after 95% of it, less up to a tenth. */
export const AGE_SHARE = 0.95 * 0.95

/** Share of a core above which Cloud Run starts instances, and pods are started here. A process has one core. */
export const CPU_TARGET = 0.6
/** Share of a core that a Redis is to use at the most. The rest is for bursts, and for clients that all come back. */
export const REDIS_SHARE = 0.6
/** Share of Memorystore for Valkey's memory that keys may take by default. */
export const VALKEY_WRITABLE = 0.8

/** `maxConnections` of a pod or of an App Engine instance in docs/deploying.md, and the share to which it is filled. */
export const POD_CONNECTIONS = 10_000
export const POD_TARGET = 0.6
/** Pods of 1 vCPU on an e2-standard-4: Kubernetes itself takes a part of its 4 vCPU. */
export const NODE_VCPU = 3
/** GiB of an e2-standard-4 that pods may take, about. */
export const NODE_MEMORY = 12
/** GB of an App Engine instance's disk: the least allowed. */
export const FLEX_DISK = 10

/** Of a connection's two log entries: 885 and 709 measured on 28 November 2026, and what Cloud Logging adds, about. */
export const LOG_BYTES = 885 + 709 + 2 * 452
/** Bytes of the platform's own entry for the request, about. */
export const REQUEST_LOG_BYTES = 1_200
/** GiB of log entries that cost nothing, each month. */
export const FREE_LOGS = 50
/** Samples of a busy instance in one export a minute: 23 scalars, and 20 histograms of 6 samples each. */
export const SAMPLES = 23 + 20 * 6

/** Addresses of an instance in its subnet: two, and two of the revision before it during a deployment. */
export const ADDRESSES = 4
/** Room above the peak in the greatest number of instances. */
export const HEADROOM = 1.25
/** Hours for which the instances of the revision before live on after a deployment, at most. */
export const OVERLAP = 1
