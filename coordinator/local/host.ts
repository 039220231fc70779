/** What the machine is doing, as samples: CPU, memory, file systems, disks, network. */
import { loadavg } from 'node:os';
import { currentLoad, disksIO, fsSize, fsStats, mem, networkStats } from 'systeminformation';
import type { Scraped } from './exposition.ts';

function sample(name: string, value: number | null | undefined, labels: Record<string, string> = {}): Scraped[] {
  // Where a system does not tell a figure there is no sample, rather than a zero.
  return typeof value === 'number' && Number.isFinite(value) ? [{ labels: { __name__: name, ...labels }, value }] : [];
}

/** Reads everything once. What one reader cannot tell on this system is left out; the others go on. */
export async function readHost(): Promise<Scraped[]> {
  const readings = await Promise.allSettled([readCpu(), readMemory(), readFileSystems(), readDisks(), readNetwork()]);
  return readings.flatMap((reading) => (reading.status === 'fulfilled' ? reading.value : []));
}

async function readCpu(): Promise<Scraped[]> {
  const load = await currentLoad();
  return [
    ...sample('host_cpu_used_ratio', load.currentLoad / 100),
    ...load.cpus.flatMap((cpu, i) => sample('host_cpu_core_used_ratio', cpu.load / 100, { cpu: String(i) })),
    ...sample('host_load1', loadavg()[0]),
  ];
}

async function readMemory(): Promise<Scraped[]> {
  const memory = await mem();
  return [
    ...sample('host_memory_total_bytes', memory.total),
    ...sample('host_memory_available_bytes', memory.available),
    ...sample('host_memory_used_bytes', memory.active),
    ...sample('host_swap_used_bytes', memory.swapused),
  ];
}

async function readFileSystems(): Promise<Scraped[]> {
  return (await fsSize()).flatMap(({ fs, mount, size, used, available }) => {
    const labels = { device: fs, mount };
    return [
      ...sample('host_filesystem_size_bytes', size, labels),
      ...sample('host_filesystem_used_bytes', used, labels),
      ...sample('host_filesystem_available_bytes', available, labels),
    ];
  });
}

async function readDisks(): Promise<Scraped[]> {
  const [operations, bytes] = await Promise.all([disksIO(), fsStats()]);
  return [
    ...sample('host_disk_reads_total', operations?.rIO),
    ...sample('host_disk_writes_total', operations?.wIO),
    ...sample('host_disk_read_bytes_total', bytes?.rx),
    ...sample('host_disk_written_bytes_total', bytes?.wx),
  ];
}

async function readNetwork(): Promise<Scraped[]> {
  return (await networkStats('*')).flatMap(({ iface, rx_bytes, tx_bytes, rx_errors, tx_errors }) => {
    const labels = { interface: iface };
    return [
      ...sample('host_network_receive_bytes_total', rx_bytes, labels),
      ...sample('host_network_transmit_bytes_total', tx_bytes, labels),
      ...sample('host_network_receive_errors_total', rx_errors, labels),
      ...sample('host_network_transmit_errors_total', tx_errors, labels),
    ];
  });
}
