// Classifies a picture by a .tflite file that `alexnet convert` wrote, with nothing but LiteRT.
//
//   LITERT=$(python3 -c "import ai_edge_litert as l; print(*l.__path__)")
//   g++ -std=c++17 -O2 classify.cc -o classify "$LITERT/libLiteRt.so" -Wl,-rpath,"$LITERT"
//   convert flower.jpg -auto-orient -background white -alpha remove -depth 8 ppm:- |
//     ./classify alexnet_int8.tflite
//
// The picture comes on standard input as PPM or PGM (P6 or P5, 8 bits), and has to be upright: these
// formats have no place for EXIF's orientation, which telephones write instead of turning the
// picture, so the program that writes them has to turn it. ImageMagick's convert (`magick` in
// version 7), used as above, does so, and lays transparent pictures on white. djpeg does neither:
// before it, turn the file (`exiftran -ai flower.jpg`).
//
// Prints the five best classes. The file holds all that is needed: labels.txt and manifest.json are
// stored, not compressed, in the zip archive at its end; sizes and types are those of its tensors.
// The crop: the shorter side is scaled to `resize` of the manifest (triangle filter, antialiased),
// and the network gets the central square, RGB or grey, 0..255; it subtracts the mean itself.
// This program does not check that the file is undamaged: docs/edge.md says how to.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "litert.h"

namespace {

void check(LiteRtStatus status, const char* what) {
  if (status != 0)
    throw std::runtime_error(std::string(what) + ": LiteRT says " + std::to_string(status));
}
#define CHECK(call) check(call, #call)

uint32_t number(const std::string& bytes, size_t at, int size) {
  uint32_t value = 0;
  for (int i = size; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes.at(at + i));
  return value;
}

// A file of the zip archive at the end of `content`.
std::string member(const std::string& content, const std::string& name) {
  const size_t end = content.rfind("PK\5\6");
  if (end == std::string::npos)
    throw std::runtime_error("no labels: alexnet convert did not write it");
  size_t entry = number(content, end + 16, 4);
  for (uint32_t left = number(content, end + 10, 2); left > 0; --left) {
    const uint32_t method = number(content, entry + 10, 2), size = number(content, entry + 24, 4);
    const uint32_t length = number(content, entry + 28, 2);
    const uint32_t others = number(content, entry + 30, 2) + number(content, entry + 32, 2);
    const size_t local = number(content, entry + 42, 4);
    if (content.substr(entry + 46, length) == name) {
      if (method != 0) throw std::runtime_error(name + " is compressed");
      const size_t begin =
          local + 30 + number(content, local + 26, 2) + number(content, local + 28, 2);
      return content.substr(begin, size);
    }
    entry += 46 + length + others;
  }
  throw std::runtime_error("no " + name + ": alexnet convert did not write it");
}

// Where the value of an entry of the manifest begins; npos if there is none. What follows
// "training" belongs to that entry, such as flags with the same names.
size_t value_of(const std::string& json, const std::string& name) {
  const size_t at = json.find("\"" + name + "\":");
  return at < json.find("\"training\":") ? at + name.size() + 3 : std::string::npos;
}

int whole_number(const std::string& json, const std::string& name) {
  const size_t at = value_of(json, name);
  if (at == std::string::npos) throw std::runtime_error("no " + name + " in manifest.json");
  return std::stoi(json.substr(at));
}

// The least probability that the best class has to reach, or 0.
float least_probability(const std::string& json) {
  const size_t at = value_of(json, "min_probability");
  return at == std::string::npos ? 0 : std::strtof(json.c_str() + at, nullptr);
}

struct Image {
  int width, height;
  std::vector<float> levels;  // RGB, rows from the top
};

// The next number of a header, 0 if there is none; lines of comments may stand before it.
int header_number(std::istream& stream) {
  int number = 0;
  while ((stream >> std::ws).peek() == '#')
    stream.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  stream >> number;
  return number;
}

Image read_picture(std::istream& stream) {
  std::string magic;
  stream >> magic;
  const bool is_grey = magic == "P5";
  const int width = header_number(stream), height = header_number(stream);
  const int largest = header_number(stream);
  stream.get();
  if ((magic != "P6" && !is_grey) || width < 1 || height < 1 || largest != 255 ||
      1L * width * height > 89478485)
    throw std::runtime_error("standard input is not an 8-bit PPM or PGM (P6, P5)");
  std::vector<char> bytes((is_grey ? 1L : 3L) * width * height);
  stream.read(bytes.data(), bytes.size());
  if (static_cast<size_t>(stream.gcount()) != bytes.size())
    throw std::runtime_error("the picture ends early");
  Image image{width, height, {}};
  for (char byte : bytes) image.levels.insert(image.levels.end(), is_grey ? 3 : 1, uint8_t(byte));
  return image;
}

// The filter that scales a row of `size` pixels by `scale`, for `side` pixels of the result from
// `corner` on: for each, the first pixel that counts, and the weights from it on.
std::vector<std::pair<int, std::vector<float>>> filter(int size, double scale, double corner,
                                                       int side) {
  std::vector<std::pair<int, std::vector<float>>> pixels;
  const double reach = std::max(1 / scale, 1.0);
  for (int i = 0; i < side; ++i) {
    const double centre = (corner + i + 0.5) / scale;
    const int begin = std::max(0, static_cast<int>(std::floor(centre - reach)));
    const int end = std::min(size, static_cast<int>(std::ceil(centre + reach)));
    std::vector<float> weights;
    for (int j = begin; j < end; ++j)
      weights.push_back(std::max(0.0, 1 - std::abs(j + 0.5 - centre) / reach));
    const float sum = std::accumulate(weights.begin(), weights.end(), 0.0f);
    for (float& weight : weights) weight /= sum;
    pixels.emplace_back(begin, weights);
  }
  return pixels;
}

// The central side x side pixels of an image whose shorter side is scaled to `resize`, rounded.
std::vector<float> central_crop(const Image& image, int resize, int side) {
  const int shorter = std::min(image.width, image.height), offset = (resize - side) / 2;
  auto along = [&](int size) {
    const double scaled = std::nearbyint(1.0 * size * resize / shorter);
    return filter(size, scaled / size, std::floor((scaled - resize) / 2) + offset, side);
  };
  const auto rows = along(image.height), columns = along(image.width);
  std::vector<float> crop;
  std::vector<float> row(3L * image.width);
  for (const auto& [top, row_weights] : rows) {
    std::fill(row.begin(), row.end(), 0.0f);
    for (size_t j = 0; j < row_weights.size(); ++j)
      for (size_t x = 0; x < row.size(); ++x)
        row[x] += row_weights[j] * image.levels[(top + j) * row.size() + x];
    for (const auto& [left, column_weights] : columns)
      for (int channel = 0; channel < 3; ++channel) {
        float level = 0;
        for (size_t j = 0; j < column_weights.size(); ++j)
          level += column_weights[j] * row[3 * (left + j) + channel];
        crop.push_back(std::nearbyint(level));
      }
  }
  return crop;
}

class Network {
 public:
  explicit Network(const char* path) {
    LiteRtModel model;
    LiteRtSignature signature;
    LiteRtTensor input, output;
    LiteRtOptions options;
    CHECK(LiteRtCreateEnvironment(0, nullptr, &environment_));
    CHECK(LiteRtCreateModelFromFile(environment_, path, &model));
    CHECK(LiteRtGetModelSignature(model, 0, &signature));
    CHECK(LiteRtGetSignatureInputTensorByIndex(signature, 0, &input));
    CHECK(LiteRtGetSignatureOutputTensorByIndex(signature, 0, &output));
    CHECK(LiteRtGetRankedTensorType(input, &input_));
    CHECK(LiteRtGetRankedTensorType(output, &output_));
    if (output_.element_type == kLiteRtElementTypeUInt8)
      CHECK(LiteRtGetPerTensorQuantization(output, &quantization_));
    CHECK(LiteRtCreateOptions(&options));
    CHECK(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu));
    CHECK(LiteRtCreateCompiledModel(environment_, model, options, &compiled_));
    LiteRtTensorBufferRequirements needed;
    CHECK(LiteRtGetCompiledModelInputBufferRequirements(compiled_, 0, 0, &needed));
    CHECK(
        LiteRtCreateManagedTensorBufferFromRequirements(environment_, &input_, needed, &image_));
    CHECK(LiteRtGetCompiledModelOutputBufferRequirements(compiled_, 0, 0, &needed));
    CHECK(LiteRtCreateManagedTensorBufferFromRequirements(environment_, &output_, needed,
                                                          &answer_));
  }

  int side() const { return input_.dimensions[1]; }
  int channels() const { return input_.dimensions[3]; }
  int classes() const { return output_.dimensions[1]; }

  std::vector<float> probabilities(const std::vector<float>& image) {
    void* memory;
    CHECK(LiteRtLockTensorBuffer(image_, &memory, kLiteRtTensorBufferLockModeWrite));
    if (input_.element_type == kLiteRtElementTypeUInt8)
      std::copy(image.begin(), image.end(), static_cast<uint8_t*>(memory));
    else
      std::copy(image.begin(), image.end(), static_cast<float*>(memory));
    CHECK(LiteRtUnlockTensorBuffer(image_));
    CHECK(LiteRtRunCompiledModel(compiled_, 0, 1, &image_, 1, &answer_));
    CHECK(LiteRtLockTensorBuffer(answer_, &memory, kLiteRtTensorBufferLockModeRead));
    std::vector<float> answer(classes());
    for (int i = 0; i < classes(); ++i)
      answer[i] = output_.element_type == kLiteRtElementTypeUInt8
                      ? quantization_.scale *
                            (static_cast<uint8_t*>(memory)[i] - quantization_.zero_point)
                      : static_cast<float*>(memory)[i];
    CHECK(LiteRtUnlockTensorBuffer(answer_));
    return answer;
  }

 private:
  LiteRtEnvironment environment_;
  LiteRtCompiledModel compiled_;
  LiteRtRankedTensorType input_{}, output_{};
  LiteRtQuantizationPerTensor quantization_{};
  LiteRtTensorBuffer image_, answer_;
};

void classify(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  if (content.empty()) throw std::runtime_error("it cannot be read");
  std::istringstream lines(member(content, "labels.txt"));
  std::vector<std::string> labels;
  for (std::string line; std::getline(lines, line);) labels.push_back(line);
  Network network(path);
  if (static_cast<int>(labels.size()) != network.classes())
    throw std::runtime_error("it does not have one label for each class");
  const std::string manifest = member(content, "manifest.json");
  const int resize = whole_number(manifest, "resize");
  std::vector<float> image = central_crop(read_picture(std::cin), resize, network.side());
  if (network.channels() == 1) {  // grey
    for (size_t i = 0; i < image.size() / 3; ++i)
      image[i] = std::nearbyint(0.2989f * image[3 * i] + 0.587f * image[3 * i + 1] +
                                0.114f * image[3 * i + 2]);
    image.resize(image.size() / 3);
  }
  const std::vector<float> answer = network.probabilities(image);
  std::vector<int> order(answer.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return answer[a] > answer[b]; });
  order.resize(std::min<size_t>(5, order.size()));
  if (const float best = answer[order[0]]; best < least_probability(manifest)) {
    std::printf("%.4f  none of these\n", 1 - best);
    order.pop_back();
  }
  for (int index : order) std::printf("%.4f  %s\n", answer[index], labels[index].c_str());
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: classify FILE.tflite < PICTURE.ppm, upright\n";
    return 2;
  }
  try {
    classify(arguments[1]);
  } catch (const std::exception& error) {
    std::cerr << "classify: " << arguments[1] << ": " << error.what() << "\n";
    return 2;
  }
  return 0;
}
