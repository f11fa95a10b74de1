import t from 'tap'
import { isAway, isForbidden, isUnusable } from '../../../lib/backends/redis/replies.ts'

t.test('a server is of no use if it is a replica or loads its data, also as Redis 6 says it of a script', async (t) => {
  for (const reply of [
    "READONLY You can't write against a read only replica.",
    "READONLY You can't write against a read only replica. script: 0a9f75e9, on @user_script:1.",
    "ERR Error running script (call to f_0a9f75e9): @user_script:9: @user_script: 9: -READONLY You can't write against a read only replica.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    'LOADING Redis is loading the dataset in memory'
  ]) {
    t.ok(isUnusable(reply), reply)
    t.ok(isAway(reply), reply)
  }
  for (const reply of ['CLUSTERDOWN Hash slot not served', 'TRYAGAIN Multiple keys request during rehashing of slot']) {
    t.notOk(isUnusable(reply), reply)
    t.ok(isAway(reply), reply)
  }
  for (const reply of ["OOM command not allowed when used memory > 'maxmemory'.", 'NOSCRIPT No matching script.', 'WRONGTYPE Operation', "ERR unknown command 'READONLY'"]) {
    t.notOk(isAway(reply), reply)
  }
})

t.test('a right is missing, in the words of Redis 6, 7 and 8 and of Valkey', async (t) => {
  for (const reply of [
    "NOPERM this user has no permissions to run the 'xadd' command",
    "NOPERM User app has no permissions to run the 'xadd' command",
    "NOPERM The user executing the script can't run this command or subcommand",
    "ERR The user executing the script can't run this command or subcommand",
    "ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
    "ERR The user executing the script can't publish to the channel mentioned in the command",
    "NOPERM ACL failure in script: User app has no permissions to run the 'xadd' command",
    'NOPERM ACL failure in script: No permissions to access a key'
  ]) t.ok(isForbidden(reply), reply)
  for (const reply of ['ERR value is not an integer or out of range', 'WRONGTYPE Operation against a key holding the wrong kind of value']) t.notOk(isForbidden(reply), reply)
})
