/* Rounds: what one launch of NCCL moves of an operation. Ranks cut an operation into the same rounds: a
 * message of an exchange into chunks on both sides, a collective operation by counts that are the same on all
 * ranks. */
#include "cuda/comm_nccl_impl.h"

/* Where NCCL has not finished the launch, it goes on in a thread of its own. Until then nothing may follow it
 * on the stream, not even an event. */
static sbag_code_t end_round(comm_nccl_t *d, sbag_status_t *status) {
  d->launching = 1;
  int busy = 0;
  SBAG_TRY(comm_nccl_busy(d, &busy, status));
  return busy ? SBAG_OK : comm_nccl_launched(d, status);
}

static sbag_code_t copy(comm_nccl_t *d, void *to, const void *from, int64_t bytes, sbag_status_t *status) {
  if (bytes == 0 || to == from) return SBAG_OK;
  return comm_nccl_check_cuda(d,
                              cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToDevice, d->stream),
                              "cudaMemcpyAsync", status);
}

sbag_code_t comm_nccl_launched(comm_nccl_t *d, sbag_status_t *status) {
  d->launching = 0;
  SBAG_TRY(copy(d, d->last_copy.data, d->staged, d->last_copy.bytes, status));
  d->last_copy.bytes = 0;
  SBAG_TRY(comm_nccl_check_cuda(d, cudaEventRecord(d->round_end[d->rounds_posted % NCCL_WINDOW], d->stream),
                                "cudaEventRecord", status));
  d->rounds_posted++;
  return SBAG_OK;
}

/* ---- exchange ---- */

/* Of one part what the round takes. */
static comm_part_t cut(const comm_nccl_t *d, comm_part_t *part) {
  comm_part_t piece = *part;
  if (piece.bytes > d->comm->options.chunk_bytes) piece.bytes = d->comm->options.chunk_bytes;
  part->bytes -= piece.bytes;
  if (part->bytes > 0) part->data = (char *)part->data + piece.bytes;
  return piece;
}

static int parts_left(const comm_nccl_t *d, const nccl_op_t *op) {
  for (int p = 0; p < d->comm->size; p++)
    if (op->send[p].bytes > 0 || op->recv[p].bytes > 0) return 1;
  return 0;
}

/* NCCL runs a group's messages beside each other, whatever their order. */
static ncclResult_t post_messages(comm_nccl_t *d, nccl_op_t *op) {
  ncclResult_t result = ncclSuccess;
  int me = d->comm->rank, size = d->comm->size;
  for (int k = 1; k < size && (result == ncclSuccess || result == ncclInProgress); k++) {
    int to = (me + k) % size, from = (me + size - k) % size;
    comm_part_t out = cut(d, &op->send[to]), in = cut(d, &op->recv[from]);
    if (out.bytes > 0) result = ncclSend(out.data, (size_t)out.bytes, ncclUint8, to, d->nccl, d->stream);
    if (in.bytes > 0 && (result == ncclSuccess || result == ncclInProgress))
      result = ncclRecv(in.data, (size_t)in.bytes, ncclUint8, from, d->nccl, d->stream);
  }
  return result;
}

static sbag_code_t post_exchange(comm_nccl_t *d, nccl_op_t *op, sbag_status_t *status) {
  int me = d->comm->rank, copied = op->send[me].bytes > 0;
  SBAG_TRY(copy(d, op->recv[me].data, op->send[me].data, op->send[me].bytes, status));
  op->send[me].bytes = op->recv[me].bytes = 0;
  int any = parts_left(d, op);
  if (any) {
    SBAG_TRY(comm_nccl_check(d, ncclGroupStart(), "ncclGroupStart", status));
    ncclResult_t result = post_messages(d, op), end = ncclGroupEnd();
    SBAG_TRY(comm_nccl_check(d, result, "exchange", status));
    SBAG_TRY(comm_nccl_check(d, end, "exchange", status));
  }
  op->posted_all = !parts_left(d, op);
  return any || copied ? end_round(d, status) : SBAG_OK;
}

/* ---- reduce-scatter ---- */

static int counts_differ(const comm_nccl_t *d, const nccl_op_t *op) {
  for (int p = 0; p < d->comm->size; p++)
    if (op->counts[p] != op->total) return 1;
  return 0;
}

/* Elements of each part in a round of padded parts: a chunk is all of the ranks' parts together. */
static int64_t staged_elements(const comm_nccl_t *d, const nccl_op_t *op) {
  int64_t most = d->comm->options.chunk_bytes / op->element_bytes / d->comm->size;
  if (most < 1) most = 1;
  return op->total < most ? op->total : most;
}

/* A block that is too small may still be in use on the stream, and freeing it would wait for all of the GPU,
 * without a deadline: it is kept. */
sbag_code_t comm_nccl_stage(comm_nccl_t *d, const nccl_op_t *op, sbag_status_t *status) {
  if (d->comm->size == 1 || !counts_differ(d, op)) return SBAG_OK;
  int64_t bytes = (d->comm->size + 1) * staged_elements(d, op) * op->element_bytes;
  if (bytes <= d->block_bytes) return SBAG_OK;
  if (bytes < 2 * d->block_bytes) bytes = 2 * d->block_bytes;
  void *block = NULL;
  SBAG_TRY(comm_nccl_check_cuda(d, cudaMalloc(&block, (size_t)bytes), "memory for padded parts", status));
  d->block[d->blocks++] = block;
  d->block_bytes = bytes;
  return SBAG_OK;
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* This round's columns of each part, behind one another and padded with zeros to `count`. */
static sbag_code_t pad(comm_nccl_t *d, const nccl_op_t *op, char *block, int64_t count,
                       sbag_status_t *status) {
  const char *part = op->from;
  for (int p = 0; p < d->comm->size; p++) {
    int64_t left = op->counts[p] - op->posted, width = op->element_bytes;
    int64_t there = left < 0 ? 0 : least(left, count);
    char *to = block + p * count * width;
    SBAG_TRY(copy(d, to, part + op->posted * width, there * width, status));
    if (there < count)
      SBAG_TRY(comm_nccl_check_cuda(
          d, cudaMemsetAsync(to + there * width, 0, (size_t)((count - there) * width), d->stream),
          "cudaMemsetAsync", status));
    part += op->counts[p] * width;
  }
  return SBAG_OK;
}

/* NCCL's parts are of one size. Equal ones go as they are: NCCL wants them whole, and cuts them itself. */
static sbag_code_t post_reduce_scatter(comm_nccl_t *d, nccl_op_t *op, sbag_status_t *status) {
  int64_t count = op->total, width = op->element_bytes;
  const char *from = op->from;
  char *to = op->to;
  if (counts_differ(d, op)) {
    count = least(staged_elements(d, op), op->total - op->posted);
    char *block = d->block[d->blocks - 1];
    SBAG_TRY(pad(d, op, block, count, status));
    from = block;
    to = op->to + op->posted * width;
    int64_t mine = op->counts[d->comm->rank] - op->posted;
    if (mine < count) {
      d->last_copy = (comm_part_t){to, mine > 0 ? mine * width : 0};
      d->staged = to = block + d->comm->size * count * width;
    }
  }
  SBAG_TRY(comm_nccl_check(d,
                           ncclReduceScatter(from, to, (size_t)count, op->type, ncclSum, d->nccl, d->stream),
                           "ncclReduceScatter", status));
  op->posted += count;
  return end_round(d, status);
}

/* ---- the others ---- */

static sbag_code_t post_chunk(comm_nccl_t *d, nccl_op_t *op, sbag_status_t *status) {
  int64_t most = d->comm->options.chunk_bytes / op->element_bytes;
  int64_t count = least(most < 1 ? 1 : most, op->total - op->posted);
  char *at = op->to + op->posted * op->element_bytes;
  if (op->kind == NCCL_ALLREDUCE)
    SBAG_TRY(
        comm_nccl_check(d, ncclAllReduce(at, at, (size_t)count, op->type, op->reduction, d->nccl, d->stream),
                        "ncclAllReduce", status));
  else
    SBAG_TRY(comm_nccl_check(d, ncclBroadcast(at, at, (size_t)count, ncclUint8, op->root, d->nccl, d->stream),
                             "ncclBroadcast", status));
  op->posted += count;
  return end_round(d, status);
}

/* One rank alone has but to move its part. */
static sbag_code_t post_alone(comm_nccl_t *d, nccl_op_t *op, sbag_status_t *status) {
  op->posted = op->total;
  if (op->kind != NCCL_REDUCE_SCATTER || op->total == 0) return SBAG_OK;
  SBAG_TRY(copy(d, op->to, op->from, op->total * op->element_bytes, status));
  return end_round(d, status);
}

sbag_code_t comm_nccl_post(comm_nccl_t *d, nccl_op_t *op, sbag_status_t *status) {
  sbag_code_t code = SBAG_OK;
  if (!op->posted_any)
    SBAG_TRY(
        comm_nccl_check_cuda(d, cudaStreamWaitEvent(d->stream, op->asked, 0), "cudaStreamWaitEvent", status));
  op->posted_any = 1;
  if (op->kind == NCCL_EXCHANGE) return post_exchange(d, op, status);
  if (d->comm->size == 1)
    code = post_alone(d, op, status);
  else if (op->total > 0)
    code = op->kind == NCCL_REDUCE_SCATTER ? post_reduce_scatter(d, op, status) : post_chunk(d, op, status);
  op->posted_all = op->posted == op->total;
  return code;
}
