plugins {
    id("com.android.application") version "8.7.3"
    id("org.jetbrains.kotlin.android") version "2.0.21"
}

android {
    namespace = "org.example.alexnet"
    compileSdk = 35
    defaultConfig {
        applicationId = "org.example.alexnet"
        minSdk = 28 // ImageDecoder
        targetSdk = 35
    }
    androidResources {
        noCompress += "tflite" // it is mapped into memory as it lies there
    }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
    kotlinOptions {
        jvmTarget = "17"
    }
}

dependencies {
    implementation("androidx.activity:activity-ktx:1.9.3")
    implementation("com.google.mediapipe:tasks-vision:0.10.20")
}
