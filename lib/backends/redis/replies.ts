/*
 * What error replies mean. Before Redis 7, the error of a command within a script comes after the script's name:
 * `ERR Error running script (call to f_…): @user_script:9: -READONLY You can't write against a read only replica.`
 */

/** The server was made a replica, or is loading its data. Another one may serve by now at the same address. */
const UNUSABLE = /(^|-)(READONLY|MASTERDOWN|LOADING) /
/** Nothing was done, and a later attempt may succeed: a slot has no owner, or is being moved. */
const AWAY = /^(CLUSTERDOWN|TRYAGAIN) /
/** Redis 6, 7 and 8 and Valkey say it in different words, within scripts and outside. */
const FORBIDDEN = /permission|can't (run|access|publish)/i

/** True if a server that replies so takes no commands, now or forever. */
export function isUnusable (reply: string): boolean {
  return UNUSABLE.test(reply)
}

/** True if Redis is down for the command that gets this reply: nothing was stored. */
export function isAway (reply: string): boolean {
  return AWAY.test(reply) || isUnusable(reply)
}

/** True if the user of the connection lacks a right. */
export function isForbidden (reply: string): boolean {
  return FORBIDDEN.test(reply)
}
