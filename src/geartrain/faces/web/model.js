// One look, made ready to be shown: each daemon with its process and its rate, each channel with how full it is.

// What is bad comes first where things are sorted by how they are.
export const CONDITIONS = ["dead", "hung", "faulted", "stale", "running", "idle", "never", "stopped"];
export const BAD = new Set(["dead", "hung", "faulted", "stale"]);

export function digest(live) {
  const processes = new Map(live.processes.map((process) => [process.name, process]));
  const channels = live.channels.map(withShare);
  const read = ratesBy(channels, "reader");
  const written = ratesBy(channels, "writer");
  const daemons = live.daemons.map((daemon) => {
    const process = processes.get(daemon.process);
    const cycles = Boolean(daemon.period_s || daemon.executions);
    return {
      ...daemon,
      cycles,
      ofProcess: process ?? null,
      restartsInAll: daemon.restarts + (process?.restarts ?? 0),
      // A daemon without cycles does what its channels bring: what it reads, or, at a source, what is read of it.
      flow: cycles ? daemon.rate_hz : (read.get(daemon.name) ?? written.get(daemon.name) ?? null),
      flowOf: cycles ? "cycles" : "items",
    };
  });
  return { ...live, channels, daemons, daemon: new Map(daemons.map((daemon) => [daemon.name, daemon])) };
}

function withShare(channel) {
  const share = channel.maxsize > 0 ? Math.min(1, channel.fill / channel.maxsize) : 0;
  return { ...channel, share, lossy: !channel.policy.startsWith("block") };
}

function ratesBy(channels, side) {
  const sums = new Map();
  for (const channel of channels) {
    if (channel.rate_hz !== null) sums.set(channel[side], (sums.get(channel[side]) ?? 0) + channel.rate_hz);
  }
  return sums;
}

/** "4 idle, 1 dead", the worst first. */
export function counted(daemons) {
  const counts = new Map();
  for (const { condition } of daemons) counts.set(condition, (counts.get(condition) ?? 0) + 1);
  return [...counts].sort(([a], [b]) => CONDITIONS.indexOf(a) - CONDITIONS.indexOf(b));
}
